//! Which operations rest for a maintenance window.

use std::time::Duration;

use super::Completer;
use crate::core::{Intake, Record, Work};

/// For how long at most such an operation is left alone: its window may be ended early.
const LONGEST: Duration = Duration::from_secs(5);

impl Completer {
    /// How long an operation is to be left alone, if it is covered by a window that has begun.
    ///
    /// Its scope is not on record. The layer's [`Scope`](crate::Scope) is asked about the
    /// prepared request, but may need what only an outer layer sets: then the operation may be
    /// of any scope, and rests with each.
    pub(super) async fn rest_of(&self, record: Option<&Record>) -> Option<Duration> {
        if let Some(left) = self.left(Work::Store).await {
            return Some(left.min(LONGEST));
        }
        let request = record?.request()?;
        let route = Some(request.uri().path());
        self.left(Work::Operation { route, scope: None }).await?;
        let scope = self.whose(request).await;
        let left = self.left(Work::Operation { route, scope: scope.as_deref() }).await?;
        Some(left.min(LONGEST))
    }

    async fn left(&self, work: Work<'_>) -> Option<Duration> {
        let rest = self.shared.engine.rest_of(work).await?;
        (rest.intake == Intake::Closed).then_some(rest.notice.left)
    }
}
