//! Bodies that are either the layer's own or those of others.

mod request;
mod response;

pub use self::request::RequestBody;
pub(crate) use self::request::{EMPTY_FRAMES, weight};
pub use self::response::ResponseBody;
pub(crate) use self::response::{Read, read, unread};
