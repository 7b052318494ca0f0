//! Every move a record can make.

pub(in crate::core) mod callback;
pub(in crate::core) mod fenced;
pub(in crate::core) mod in_hand;
pub(in crate::core) mod resolve;
pub(in crate::core) mod resume;
pub(in crate::core) mod submit;
