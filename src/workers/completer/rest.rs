//! Which operations rest for a maintenance window.

use std::time::Duration;

use super::Completer;
use crate::core::{Intake, Key, Record, Work};
use crate::util::signal::lock;

impl Completer {
    /// Whether an operation is covered by a window that has begun. It is left alone until that
    /// ends, or the windows change.
    pub(super) async fn rests(&self, key: Key, record: Option<&Record>) -> bool {
        let plan = self.shared.engine.plans_read();
        let Some(left) = self.rest_of(record).await else { return false };
        lock(&self.resting).add(plan, key, left);
        true
    }

    /// Whether it is known to rest.
    pub(super) fn is_resting(&self, key: &Key) -> bool {
        lock(&self.resting).has(self.shared.engine.plans_read(), key)
    }

    /// How long an operation rests.
    ///
    /// Its scope is not on record. The layer's [`Scope`](crate::Scope) is asked about the
    /// prepared request, but may need what only an outer layer sets: then the operation may be
    /// of any scope, and rests with each.
    async fn rest_of(&self, record: Option<&Record>) -> Option<Duration> {
        if let Some(left) = self.left(Work::Store).await {
            return Some(left);
        }
        let request = record?.request()?;
        let route = Some(request.uri().path());
        self.left(Work::Operation { route, scope: None }).await?;
        let scope = self.whose(request).await;
        self.left(Work::Operation { route, scope: scope.as_deref() }).await
    }

    async fn left(&self, work: Work<'_>) -> Option<Duration> {
        let rest = self.shared.engine.rest_of(work).await?;
        (rest.intake == Intake::Closed).then_some(rest.notice.left)
    }
}
