//! Events as metrics of the `metrics` facade.
//!
//! Names and labels are the table in `guide/operations.md`. No label has a key,
//! a step or anything else that a client can choose.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::core::Mode;
use crate::telemetry::event::EventKind;
use crate::telemetry::finding::FindingKind;
use crate::telemetry::scheduled::ScheduleTurn;

const LEASES: &str = "idempotency_leases_total";
const STORE: &str = "idempotency_store_failures_total";
const UNSAVED: &str = "idempotency_unsaved_total";
const FINDINGS: &str = "idempotency_findings";
const ROUNDS: &str = "idempotency_watcher_rounds_total";
const REFUSALS: &str = "idempotency_refusals_total";
const SHARED_SCOPE: &str = "idempotency_shared_scope_total";
const SCHEDULES: &str = "idempotency_schedule_runs_total";
const DRAINS: &str = "idempotency_drains_total";
const ATTEMPTS: &str = "idempotency_attempt_duration_seconds";

/// What is counted in every request has its name and its labels written out where it is counted:
/// then its key is a static, and nothing is allocated and hashed to find the counter.
macro_rules! operation {
    ($what:literal) => {
        counter!("idempotency_operations_total", "what" => $what).increment(1)
    };
}

macro_rules! step {
    ($what:literal) => {
        counter!("idempotency_steps_total", "what" => $what).increment(1)
    };
}

/// Says what each metric is, and begins to count what is rare: the first of a counter that was
/// not there before is no increase for a `rate`.
///
/// What is said before a recorder is installed is lost. So this is called where an engine is
/// made, and again where a watcher begins to run.
pub(crate) fn begin() {
    describe();
    for what in ["lost", "overdue"] {
        counter!(LEASES, "what" => what).increment(0);
    }
    for kind in ["unavailable", "full", "corrupt", "newer-format", "undecryptable", "not-indexed"] {
        counter!(STORE, "kind" => kind).increment(0);
    }
    for what in ["waiting", "saved", "given-up"] {
        counter!(UNSAVED, "what" => what).increment(0);
    }
    for what in ["begun", "ended", "cut-short"] {
        counter!(DRAINS, "what" => what).increment(0);
    }
    for what in ["complete", "failed", "given-up", "in-doubt", "passed-over"] {
        counter!(SCHEDULES, "what" => what).increment(0);
    }
    for what in ["done", "failed", "rested"] {
        counter!(ROUNDS, "what" => what).increment(0);
    }
    counter!(SHARED_SCOPE).increment(0);
}

/// The texts of the table in `guide/operations.md`.
fn describe() {
    describe_counter!("idempotency_operations_total", Unit::Count, "what happened to requests and attempts");
    describe_counter!("idempotency_steps_total", Unit::Count, "what happened to steps");
    describe_histogram!(ATTEMPTS, Unit::Seconds, "from the claim to the end of an attempt");
    describe_counter!(LEASES, Unit::Count, "attempts that may overlap another");
    describe_counter!(REFUSALS, Unit::Count, "requests that the layer refused");
    describe_counter!(STORE, Unit::Count, "calls to the store that failed");
    describe_counter!(UNSAVED, Unit::Count, "responses that a client got before they were stored");
    describe_counter!(DRAINS, Unit::Count, "drains of processes; cut short are those that left something");
    describe_counter!(SCHEDULES, Unit::Count, "what became of runs of schedules, and of periods that had none");
    describe_counter!(SHARED_SCOPE, Unit::Count, "processes that saw credentials under a shared scope");
    describe_gauge!(FINDINGS, Unit::Count, "open findings, as the watcher of this process sees them");
    describe_counter!(ROUNDS, Unit::Count, "rounds of this process's watcher; it rests in maintenance windows");
}

pub(crate) fn count(kind: &EventKind) {
    match kind {
        EventKind::Accepted => operation!("accepted"),
        EventKind::Claimed => operation!("claimed"),
        EventKind::Resumed { .. } => operation!("resumed"),
        EventKind::Replayed => operation!("replayed"),
        EventKind::Completed { retained: true, .. } => operation!("completed"),
        EventKind::Completed { retained: false, .. } => operation!("completed-not-retained"),
        EventKind::Released { mode: Mode::Resumable, .. } => operation!("released"),
        EventKind::Released { mode: Mode::AtMostOnce, .. } => operation!("outcome-unknown"),
        EventKind::NotReached { .. } => operation!("not-reached"),
        EventKind::Undoing { .. } => operation!("undoing"),
        EventKind::Withdrawn { .. } => operation!("withdrawn"),
        EventKind::Parked { .. } => operation!("parked"),
        EventKind::Panicked => operation!("panicked"),
        EventKind::CutOff { .. } => operation!("cut-off"),
        EventKind::NoRoute { .. } => operation!("no-route"),
        EventKind::RedactionFailed { .. } => operation!("redaction-failed"),
        EventKind::NotWired { .. } => operation!("not-wired"),
        EventKind::Reconciled => operation!("reconciled"),
        EventKind::Decided { .. } => operation!("decided"),
        EventKind::CallbackDelivered { .. } => operation!("callback-delivered"),
        EventKind::CallbackFailed { given_up: false, .. } => operation!("callback-failed"),
        EventKind::CallbackFailed { given_up: true, .. } => operation!("callback-given-up"),
        EventKind::Unreadable { .. } => operation!("unreadable"),
        EventKind::StepBegun { .. } => step!("begun"),
        EventKind::StepSaved { .. } => step!("saved"),
        EventKind::StepFailed { .. } => step!("failed"),
        EventKind::StepReplayed { .. } => step!("replayed"),
        EventKind::LeaseLost => counter!(LEASES, "what" => "lost").increment(1),
        EventKind::Overdue => counter!(LEASES, "what" => "overdue").increment(1),
        EventKind::Refused { refusal } => {
            counter!(REFUSALS, "problem" => refusal.name()).increment(1);
        }
        EventKind::StoreFailed { error, .. } => counter!(STORE, "kind" => error.kind().name()).increment(1),
        EventKind::Unsaved { .. } => counter!(UNSAVED, "what" => "waiting").increment(1),
        EventKind::SavedLate => counter!(UNSAVED, "what" => "saved").increment(1),
        EventKind::SaveFailed { .. } => counter!(UNSAVED, "what" => "given-up").increment(1),
        // The failures before it are counted.
        EventKind::StoreBack => {}
        // Gauges: see `watched`.
        EventKind::Found { .. } => {}
        // Once: there is nothing to count.
        EventKind::CredentialDropped { .. } | EventKind::KeyIgnored { .. } => {}
        // What a window does shows as refusals.
        EventKind::MaintenanceBegun { .. } | EventKind::MaintenanceEnded { .. } => {}
        EventKind::DrainBegun { .. } => counter!(DRAINS, "what" => "begun").increment(1),
        EventKind::DrainEnded { left } => {
            counter!(DRAINS, "what" => if left.is_empty() { "ended" } else { "cut-short" }).increment(1);
        }
        EventKind::Schedule { turn: turn @ ScheduleTurn::PassedOver { periods }, .. } => {
            counter!(SCHEDULES, "what" => turn.name()).increment(*periods);
        }
        EventKind::Schedule { turn, .. } => counter!(SCHEDULES, "what" => turn.name()).increment(1),
        EventKind::SharedScope => counter!(SHARED_SCOPE).increment(1),
    }
}

/// An attempt ended.
pub(crate) fn attempt(took: Duration, mode: Mode) {
    match mode {
        Mode::Resumable => histogram!("idempotency_attempt_duration_seconds", "mode" => "resumable"),
        Mode::AtMostOnce => histogram!("idempotency_attempt_duration_seconds", "mode" => "at-most-once"),
    }
    .record(took);
}

/// A watcher looked; `None` if a maintenance window kept it from asking the store.
pub(crate) fn watched(asked: Option<bool>, open: impl Fn(FindingKind) -> usize) {
    let what = match asked {
        Some(true) => "done",
        Some(false) => "failed",
        None => "rested",
    };
    counter!(ROUNDS, "what" => what).increment(1);
    for kind in FindingKind::ALL {
        // As exact as a gauge is, up to 2^53.
        gauge!(FINDINGS, "kind" => kind.name()).set(u32::try_from(open(kind)).unwrap_or(u32::MAX));
    }
}
