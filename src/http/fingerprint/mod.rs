//! What makes two requests the same request, as it can be set.
//!
//! [`rules`] has the settings, `form` makes the digest by them, from a media type
//! ([`media_type`]), the parts of a multipart body ([`multipart`]) and members of JSON
//! ([`member`], [`pointer`]). `page` says it in words.

pub(crate) mod form;
pub(crate) mod media_type;
mod member;
pub(crate) mod multipart;
mod page;
pub(crate) mod pointer;
pub(crate) mod rules;
