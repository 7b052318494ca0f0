//! A request from its claim to its response.
//!
//! `admit` decides whether the request is guarded (`unread`, if its key may be in its body),
//! `run` claims and calls the handler, `record` decides how the handler's response counts and
//! stores it, `respond` makes the responses that the client gets in the handler's place, and
//! `stored` chooses what is kept of messages.

pub(crate) mod admit;
mod age;
mod reason;
mod record;
mod replay;
pub(crate) mod respond;
pub(crate) mod run;
mod stored;
pub(crate) mod unread;
mod wait;

use std::sync::Arc;

use http::HeaderValue;

use crate::core::{Key, Rest};
use crate::engine::Engine;
use crate::engine::handoff::Handoff;
use crate::engine::shares::ScopeTag;
use crate::http::head::Seldom;
use crate::http::policy::Policy;

/// What all clones of a service share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) policy: Policy,
    /// Where a completer of this process takes work that is accepted.
    pub(crate) handoff: Arc<Handoff>,
}

/// What a request needs that may run in the background.
pub(crate) struct Later {
    /// Where to ask for its response.
    pub(crate) place: HeaderValue,
    /// The scope that it counts for; `None` if there is one.
    pub(crate) scope: Option<ScopeTag>,
}

/// What a guarded request needs from its claim to its response.
pub(crate) struct RequestContext {
    pub(crate) shared: Arc<Shared>,
    pub(crate) key: Key,
    pub(crate) later: Option<Later>,
    pub(crate) seldom: Option<Box<Seldom>>,
    /// The maintenance window that covers it.
    pub(crate) rest: Option<Box<Rest>>,
    /// A completer runs it, and not its client.
    pub(crate) is_driven: bool,
}
