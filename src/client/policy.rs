//! What was set.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Uri};
use tower::retry::budget::TpsBudget;

use super::error::ClientErrorKind;
use super::origin::Server;
use super::progress::Progress;
use crate::util::backoff::Backoff;

/// For how long a first try counts in the budget.
const BUDGET_WINDOW: Duration = Duration::from_secs(10);

type IsFinal = dyn Fn(&(dyn Error + 'static)) -> bool + Send + Sync;
type OnProgress = dyn Fn(&Progress) + Send + Sync;

/// The settings of a layer.
#[derive(Clone)]
pub(super) struct Policy {
    pub(super) servers: Vec<Server>,
    pub(super) key_header: HeaderName,
    pub(super) quotes_keys: bool,
    pub(super) max_tries: u32,
    pub(super) try_timeout: Duration,
    pub(super) deadline: Duration,
    pub(super) backoff: Backoff,
    pub(super) retry_after_limit: Duration,
    pub(super) request_limit: usize,
    pub(super) response_limit: usize,
    pub(super) follows: bool,
    pub(super) is_final: Option<Arc<IsFinal>>,
    pub(super) on_progress: Option<Arc<OnProgress>>,
    pub(super) budget: Arc<TpsBudget>,
}

impl Policy {
    pub(super) fn serves(&self, uri: &Uri) -> bool {
        self.servers.iter().any(|server| server.serves(uri))
    }

    /// Whether no other try can mend what this one failed with.
    pub(super) fn ends_with(&self, kind: &ClientErrorKind) -> bool {
        match (&self.is_final, kind) {
            (Some(is_final), ClientErrorKind::Service(error)) => any_cause(&**error, &**is_final),
            _ => false,
        }
    }
}

pub(super) fn budget(per_second: u32, percent: u32) -> Arc<TpsBudget> {
    let share = f64::from(percent.min(100_000)) / 100.0;
    #[expect(clippy::cast_possible_truncation, reason = "at most a thousand")]
    let share = share as f32;
    Arc::new(TpsBudget::new(BUDGET_WINDOW, per_second.min(1_000_000), share))
}

/// Whether this is true of an error, or of one of its causes. What is in an [`io::Error`] is no
/// source of it.
fn any_cause(error: &(dyn Error + 'static), is: &IsFinal) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if is(error) || within.is_some_and(|within| any_cause(within, is)) {
            return true;
        }
        next = error.source();
    }
    false
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("servers", &self.servers).finish_non_exhaustive()
    }
}
