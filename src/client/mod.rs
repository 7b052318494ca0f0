//! The client's side: retries that can't do anything twice. It may know `core` and `util`.
//! Start with [`Retry`], whose `call` sends a request until it has a final response.

mod attempts;
pub(crate) mod body;
mod call;
pub(crate) mod error;
mod follow;
mod key;
mod layer;
mod origin;
mod policy;
mod progress;
mod service;
pub(crate) mod verdict;

pub use self::body::ReceivedBody;
pub use self::call::{RetryFuture, Sent};
pub use self::error::{ClientError, ClientErrorKind};
pub use self::follow::Accepted;
pub use self::layer::RetryLayer;
pub use self::origin::{InvalidServer, Server};
pub use self::progress::Progress;
pub use self::service::Retry;
