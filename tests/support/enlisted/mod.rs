//! Rows and recovery points: together or not at all, and once. What each database
//! promises whose transactions carry recovery points; the suite runs on each, with each
//! driver. What is special to one stands beside its other tests.

mod doubt;
mod faults;
mod together;

use std::pin::Pin;
use std::time::Duration;

use tower_idempotency::store::{EnlistedDatabase, Store};
use tower_idempotency::{Engine, RunError, Runner, StepError, TransactionFuture};

pub(crate) use self::doubt::*;
pub(crate) use self::faults::*;
pub(crate) use self::together::*;

/// What goes wrong in the shop itself.
pub(crate) type Failed = String;
pub(crate) type Error = StepError<Failed>;
pub(crate) type Outcome = Result<i64, RunError<Error>>;
pub(crate) type Answer<'t> = Pin<Box<dyn Future<Output = Result<i64, Failed>> + Send + 't>>;
type Handle<S> = <<S as Fixture>::Enlisted as EnlistedDatabase>::Handle;

pub(crate) const INSERT: &str = "INSERT INTO orders DEFAULT VALUES RETURNING id";

/// A database with orders, a store in it, and a driver.
pub(crate) trait Fixture: Sized + Send + Sync + 'static {
    type Enlisted: EnlistedDatabase;
    type Store: Store + Clone;
    /// A query that takes long and is given up when its future is dropped, if there is one.
    const ENDLESS: Option<&'static str>;

    /// A new one, with no orders.
    fn open() -> impl Future<Output = Self>;
    fn store(&self) -> Self::Store;
    fn enlisted(&self) -> Self::Enlisted;
    /// Runs a statement of one row with one number.
    fn run<'t>(handle: &'t mut Handle<Self>, sql: &'static str) -> Answer<'t>;
    /// How many orders there are.
    fn orders(&self) -> i64;
    /// How many results of steps the store has.
    fn steps(&self) -> i64;
    /// No transaction is open any more, or will be in a moment.
    fn assert_nothing_is_open(&self, how: &str);

    fn runner(&self) -> Runner {
        self.runner_with(|engine| engine.lease(Duration::from_secs(20)))
    }

    /// A runner whose engine was told something.
    fn runner_with(&self, tell: impl FnOnce(Engine) -> Engine) -> Runner {
        Runner::new(tell(Engine::new(self.store())))
    }
}

/// Tells the compiler what kind of closure this is.
fn work<S: Fixture, T, F>(work: F) -> F
where
    F: for<'t> FnOnce(&'t mut Handle<S>) -> TransactionFuture<'t, T, Failed>,
{
    work
}

/// The suite on a shop, as tests in a module of this name.
macro_rules! enlisted_tests {
    ($name:ident, $shop:ty) => {
        $crate::enlisted::enlisted_tests! {
            $name, $shop,
            a_step_that_committed_is_not_run_again
            work_that_fails_panics_or_is_dropped_leaves_nothing
            whoever_lost_the_claim_commits_nothing
            another_store_is_refused
            duplicates_and_retries_make_one_row
            an_answer_that_committed_is_the_answer
            nothing_commits_behind_a_step_in_doubt
            no_answer_commits_behind_a_doubt_that_comes_up_meanwhile
            a_failure_that_leaves_out_a_payment_commits_nothing
            a_failure_of_grpc_does_not_commit_behind_a_payment
            a_changed_input_is_an_error_and_commits_nothing
            an_input_that_json_can_not_carry_begins_no_transaction
            whatever_the_store_does_there_is_one_row
            what_commits_with_rows_is_encrypted
        }
    };
    ($name:ident, $shop:ty, $($case:ident)*) => {
        mod $name {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::enlisted::$case::<$shop>().await;
            })*
        }
    };
}
pub(crate) use enlisted_tests;
