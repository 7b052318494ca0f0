//! A change that commits with a transaction of the caller's, or not at all.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::turn::Turn;
use super::{Attempt, WriteError};
use crate::core::{Change, Done, Exchange, Fenced, Lost, NotStarted, Point, Reached, Record, Reply, Start, Version};
use crate::store::{CommitError, EnlistedDatabase, StoreError, StoreErrorKind};

/// Why a transaction did not commit, or may not have.
#[derive(Debug)]
pub(crate) enum NotCommitted {
    /// It was rolled back: the claim is another attempt's.
    Lost,
    /// It was rolled back: by now it may not start any more, or the response would hide a
    /// step that is in doubt.
    NotStarted(NotStarted),
    /// It was rolled back.
    RolledBack(StoreError),
    /// Whether it committed is not known.
    Unknown(StoreError),
}

type Write = Exchange<Fenced, Result<(), Lost>>;

/// How long the operation's own writes may keep a transaction from beginning.
const BEGINNING: Duration = Duration::from_secs(5);

/// A transaction that was begun.
pub(crate) struct Begun<D: EnlistedDatabase> {
    pub(crate) transaction: D::Transaction,
    /// What keeps the operation's own writes waiting, if the transaction would: one
    /// that has the turn and waits for the database would never end.
    seat: Option<Turn<Arc<Attempt>>>,
}

impl Attempt {
    /// Begins a transaction.
    pub(crate) async fn begin<D: EnlistedDatabase>(self: &Arc<Self>, database: &D) -> Result<Begun<D>, StoreError> {
        let started = Instant::now();
        loop {
            let transaction = database.begin(self.limits.lease).await?;
            if !D::LOCKS_THE_STORE {
                return Ok(Begun { transaction, seat: None });
            }
            if let Some(seat) = self.try_own_turn() {
                return Ok(Begun { transaction, seat: Some(seat) });
            }
            // A write of the operation's own waits for this transaction.
            D::roll_back(transaction).await;
            let written = timeout(BEGINNING.saturating_sub(started.elapsed()), self.turn()).await;
            if written.is_err() {
                let message = "no transaction could be begun in time: the operation itself kept writing";
                return Err(StoreError::new(StoreErrorKind::Unavailable, message));
            }
        }
    }

    /// Stores `changes` in `transaction`, and commits it. The first of them is
    /// what it is about. In a task of its own: a handler that stops waiting leaves
    /// nothing half done.
    pub(crate) async fn commit<D: EnlistedDatabase>(
        self: &Arc<Self>,
        database: &D,
        begun: Begun<D>,
        changes: Vec<Change>,
    ) -> Result<(), NotCommitted> {
        let (this, database) = (Arc::clone(self), database.clone());
        let commit = tokio::spawn(async move { this.join(&database, begun, changes).await });
        commit.await.unwrap_or_else(|_| Err(NotCommitted::Unknown(StoreError::timed_out())))
    }

    async fn join<D: EnlistedDatabase>(
        self: &Arc<Self>,
        database: &D,
        begun: Begun<D>,
        changes: Vec<Change>,
    ) -> Result<(), NotCommitted> {
        let Begun { mut transaction, seat } = begun;
        let mut current = match seat {
            Some(seat) => seat,
            // Only now that the caller's work is done: renewals need a turn, too.
            None => self.own_turn().await,
        };
        let written = self.write_into(database, &mut transaction, &changes, &mut current).await;
        let mut write = match written {
            Ok(Some(write)) => write,
            not_written => {
                D::roll_back(transaction).await;
                not_written?;
                if D::LOCKS_THE_STORE {
                    // Whether another attempt took over: the store knows.
                    self.renew(&mut current).await?;
                }
                return Err(NotCommitted::RolledBack(StoreError::new(StoreErrorKind::Unavailable, D::NOT_THERE)));
            }
        };
        match self.engine.ledger().commit::<D>(transaction).await {
            Ok(()) => {
                write.answer(Reply::Written);
                self.follow_commit(write.finish().and_then(|done| done.record), &mut current);
            }
            Err(CommitError::RolledBack(error)) => return Err(NotCommitted::RolledBack(error)),
            Err(CommitError::Unknown(error)) => self.find_out(&changes, &mut current, write.nonce(), error).await?,
        }
        if let Some(Change::Complete { response, .. }) = changes.into_iter().next() {
            let _ = self.ending.completed.set(response);
            let _ = self.ending.over.set(());
            self.leave();
        }
        Ok(())
    }

    /// `None` if the record is not there as this attempt knows it.
    async fn write_into<D: EnlistedDatabase>(
        &self,
        database: &D,
        transaction: &mut D::Transaction,
        changes: &[Change],
        current: &mut Arc<Record>,
    ) -> Result<Option<Write>, NotCommitted> {
        for first in [true, false] {
            self.may_commit(changes, current).map_err(NotCommitted::NotStarted)?;
            let mut write = self.exchange(self.with_those_along(changes), current, self.since.elapsed());
            match self.engine.ledger().join(&self.key, &mut write, database, transaction).await {
                Ok(true) => return Ok(Some(write)),
                // Another attempt took over, or an earlier write of ours took although
                // its reply was lost: the store knows.
                Ok(false) if first && !D::LOCKS_THE_STORE => self.renew(current).await?,
                Ok(false) => break,
                Err(error) => return Err(NotCommitted::RolledBack(error)),
            }
        }
        Ok(None)
    }

    /// A step's rows were written before, and it goes on; a response would hide a doubt.
    fn may_commit(&self, changes: &[Change], current: &Record) -> Result<(), NotStarted> {
        let is_undoing = current.undoing().is_some();
        let [Change::Complete { response, reached, .. }] = changes else {
            return self.check(Start::GoOn, is_undoing);
        };
        self.check(Start::Act, is_undoing)?;
        match self.hides(response, *reached == Reached::All) {
            Some(step) => Err(NotStarted::InDoubt(step.into())),
            None => Ok(()),
        }
    }

    async fn renew(&self, current: &mut Arc<Record>) -> Result<(), NotCommitted> {
        let mut write = self.exchange(vec![Change::Renew], current, self.since.elapsed());
        self.engine.drive(&self.key, &mut write).await.map_err(NotCommitted::RolledBack)?;
        self.settle(write.finish(), current).map_err(|error| match error {
            WriteError::Lost => NotCommitted::Lost,
            WriteError::Store(error) => NotCommitted::RolledBack(error),
        })
    }

    /// Finds out what became of a commit, by a write in the same place: it
    /// waits for the lock that the transaction has on the record. If it takes,
    /// the transaction did not commit and never will; if it conflicts, what is
    /// there tells. A read would not do: it sees the old record while the
    /// commit is still on its way.
    async fn find_out(
        &self,
        changes: &[Change],
        current: &mut Arc<Record>,
        nonce: Version,
        error: StoreError,
    ) -> Result<(), NotCommitted> {
        let mut write = self.exchange(vec![Change::Renew], current, self.since.elapsed());
        tokio::select! {
            biased;
            known = self.engine.persist(&self.key, &mut write, self.limits.lease) => known.map_err(NotCommitted::Unknown)?,
            // Left to the end, which writes in the same place.
            _ = self.ending.over.wait() => return Err(NotCommitted::Unknown(error)),
        }
        let Some(Done { output, record: Some(found) }) = write.finish() else { return Err(self.lose()) };
        let took = match (changes.first(), output) {
            (Some(Change::Complete { .. }), _) => found.is_of_write(nonce),
            (_, Err(Lost)) => return Err(self.lose()),
            (Some(Change::Save { step, value }), Ok(())) => {
                found.step(step).is_some_and(|step| *step.point() == Point::Saved(value.clone()))
            }
            (_, Ok(())) => false,
        };
        if !took && output.is_err() {
            return Err(self.lose());
        }
        self.follow_commit(Some(found), current);
        if took { Ok(()) } else { Err(NotCommitted::RolledBack(error)) }
    }

    fn lose(&self) -> NotCommitted {
        self.set_lost();
        NotCommitted::Lost
    }

    fn follow_commit(&self, record: Option<Record>, current: &mut Arc<Record>) {
        self.engine.hint(&self.key, record.as_ref());
        self.follow(record, current);
    }
}
