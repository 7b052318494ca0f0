//! The ledger on a store that fails: what a command answers, and how many
//! round trips it takes to say so.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tower_idempotency::clock::ManualClock;
use tower_idempotency::core::{
    Change, Claim, Claimed, Fence, Fenced, Fingerprint, Key, Labels, Lost, Mode, Reached, Record, Resolution, Resolve,
    Status, StoredResponse, Version,
};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::conformance::{Fault, Faults, FaultyStore, Gate, Op};
use tower_idempotency::store::{Loaded, MemoryStore, Page, Query, Store, StoreError, StoreErrorKind, Swap};

const KEY: Key = Key::from_bytes([7; 32]);
const LEASE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A ledger on a faulty store.
struct Bench {
    ledger: Ledger,
    store: Arc<FaultyStore<MemoryStore>>,
    faults: Faults,
    clock: ManualClock,
}

impl Bench {
    fn new() -> Self {
        let clock = ManualClock::new();
        let store = Arc::new(FaultyStore::new(MemoryStore::with_clock(clock.clone())));
        Self { ledger: Ledger::new(Arc::clone(&store)), faults: store.faults(), store, clock }
    }

    async fn claim(&self) -> Result<(Claimed, Option<Record>), StoreError> {
        let done = self.ledger.apply(&KEY, None, claim()).await?;
        Ok((done.output, done.record))
    }

    async fn granted(&self) -> (Fence, Record) {
        match self.claim().await.unwrap() {
            (Claimed::Granted(fence), Some(record)) => (fence, record),
            other => panic!("not granted: {other:?}"),
        }
    }

    async fn change(&self, holder: &mut (Fence, Record), changes: Vec<Change>) -> Result<Result<(), Lost>, StoreError> {
        let guess = Some(holder.1.clone());
        let done = self.ledger.apply(&KEY, guess, Fenced { fence: holder.0, changes }).await?;
        holder.1 = done.record.unwrap_or_else(|| holder.1.clone());
        Ok(done.output)
    }

    /// What the store has, without a round trip.
    async fn stored(&self) -> Option<Record> {
        self.store.inner().load(&KEY).await.unwrap().record
    }

    /// The round trips since the last time.
    fn trips(&self) -> usize {
        let trips = self.faults.round_trips();
        self.faults.reset_counts();
        trips
    }
}

fn claim() -> Claim {
    Claim {
        fingerprint: Fingerprint::of([]),
        mode: Mode::Resumable,
        lease: LEASE,
        request: None,
        labels: Labels::new(),
    }
}

fn save(step: &str) -> Change {
    Change::Save { step: step.into(), value: Bytes::from_static(b"value") }
}

fn answer() -> Change {
    let body = Some(Bytes::from_static(b"answer"));
    let response = StoredResponse::capture(http::StatusCode::CREATED, &http::HeaderMap::new(), body);
    Change::Complete { response: Arc::new(response), retention: DAY, reached: Reached::All }
}

#[tokio::test]
async fn every_command_takes_one_round_trip() {
    let bench = Bench::new();
    let mut holder = bench.granted().await;
    assert_eq!(bench.trips(), 1, "a first claim");
    for step in ["a", "b", "c"] {
        bench.change(&mut holder, vec![save(step)]).await.unwrap().unwrap();
        assert_eq!(bench.trips(), 1, "a recovery point");
    }
    bench.change(&mut holder, vec![Change::Begin { step: "pay".into() }]).await.unwrap().unwrap();
    assert_eq!(bench.trips(), 1, "an intent");
    bench.change(&mut holder, (0..40).map(|n| save(&n.to_string())).collect()).await.unwrap().unwrap();
    assert_eq!(bench.trips(), 1, "forty recovery points at once");
    assert!(matches!(bench.claim().await.unwrap().0, Claimed::Busy(_)));
    assert_eq!(bench.trips(), 1, "a claim while it runs");
    bench.change(&mut holder, vec![answer()]).await.unwrap().unwrap();
    assert_eq!(bench.trips(), 1, "the answer");
    assert!(matches!(bench.claim().await.unwrap().0, Claimed::Replay(..)));
    assert_eq!(bench.trips(), 1, "a replay");
}

#[tokio::test]
async fn a_resumption_takes_two_round_trips_and_brings_the_steps() {
    let bench = Bench::new();
    let mut holder = bench.granted().await;
    bench.change(&mut holder, vec![save("a"), Change::Release]).await.unwrap().unwrap();
    bench.trips();
    let (_, record) = bench.granted().await;
    assert_eq!(bench.trips(), 2);
    assert_eq!((record.attempts(), record.steps().len()), (2, 1));
}

/// Runs one whole operation, and says what every command of it answered.
async fn life(bench: &Bench) -> Vec<String> {
    let mut said = Vec::new();
    let mut note = |what: String| said.push(what);
    let mut first = bench.granted().await;
    note(format!("{:?}", bench.change(&mut first, vec![Change::Begin { step: "a".into() }]).await.unwrap()));
    note(format!("{:?}", bench.change(&mut first, vec![save("a")]).await.unwrap()));
    note(format!("{:?}", bench.claim().await.unwrap().0));
    bench.clock.advance(LEASE);
    let mut second = bench.granted().await;
    note(format!("{:?}", bench.change(&mut first, vec![save("b")]).await.unwrap()));
    note(format!("{:?}", bench.change(&mut second, vec![Change::Park { why: "why".into() }]).await.unwrap()));
    note(format!("{:?}", bench.claim().await.unwrap().0));
    let resolve = Resolve { resolution: Resolution::RunAgain, seen: None };
    note(format!("{:?}", bench.ledger.apply(&KEY, None, resolve).await.unwrap().output));
    let mut third = bench.granted().await;
    note(format!("{} {:?}", third.1.attempts(), third.1.steps().len()));
    note(format!("{:?}", bench.change(&mut third, vec![answer()]).await.unwrap()));
    note(format!("{:?}", bench.claim().await.unwrap().0));
    bench.clock.advance(DAY);
    let mut fresh = bench.granted().await;
    note(format!("{:?}", bench.change(&mut fresh, vec![Change::Withdraw]).await.unwrap()));
    note(format!("{:?}", bench.stored().await.is_some()));
    said
}

#[tokio::test]
async fn losing_every_acknowledgement_changes_no_answer() {
    let expected = life(&Bench::new()).await;
    let bench = Bench::new();
    bench.faults.lose_every_acknowledgement();
    assert_eq!(life(&bench).await, expected);
}

#[tokio::test]
async fn delivering_every_write_twice_changes_no_answer() {
    let expected = life(&Bench::new()).await;
    let bench = Bench::new();
    bench.faults.always(Op::Swap, Fault::Twice);
    bench.faults.always(Op::Remove, Fault::Twice);
    assert_eq!(life(&bench).await, expected);
}

#[tokio::test]
async fn failing_now_and_then_changes_no_answer() {
    let expected = life(&Bench::new()).await;
    for seed in 0..50 {
        let bench = Bench::new();
        // One in two fails; the ledger stands two failures in one command.
        bench.faults.sometimes(Op::Swap, 0.5, seed, Fault::After);
        assert_eq!(life(&bench).await, expected, "seed {seed}");
    }
}

#[tokio::test]
async fn a_write_that_failed_is_looked_for_and_written_again() {
    let bench = Bench::new();
    bench.faults.next(Op::Swap, 1, Fault::Before);
    bench.granted().await;
    assert_eq!((bench.faults.calls(Op::Swap), bench.faults.calls(Op::Load)), (2, 1));
}

#[tokio::test]
async fn a_write_whose_reply_was_lost_is_looked_for_and_found() {
    let bench = Bench::new();
    bench.faults.next(Op::Swap, 1, Fault::After);
    bench.granted().await;
    assert_eq!((bench.faults.calls(Op::Swap), bench.faults.calls(Op::Load)), (1, 1));
}

#[tokio::test]
async fn a_removal_whose_reply_was_lost_is_looked_for_and_found() {
    let bench = Bench::new();
    let mut holder = bench.granted().await;
    bench.faults.next(Op::Remove, 1, Fault::After);
    assert_eq!(bench.change(&mut holder, vec![Change::Withdraw]).await.unwrap(), Ok(()));
    assert!(bench.stored().await.is_none());
    assert_eq!((bench.faults.calls(Op::Remove), bench.faults.calls(Op::Load)), (1, 1));
}

#[tokio::test]
async fn a_store_that_is_down_is_an_error_and_nothing_is_granted() {
    let bench = Bench::new();
    bench.faults.always(Op::Swap, Fault::Before);
    bench.faults.always(Op::Load, Fault::Before);
    assert_eq!(bench.claim().await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert_eq!(bench.trips(), 3, "it gave up after three failures");
    bench.faults.clear();
    assert!(bench.stored().await.is_none());
    bench.granted().await;
}

#[tokio::test]
async fn a_refusal_is_not_tried_again() {
    for kind in [StoreErrorKind::Full, StoreErrorKind::Corrupt, StoreErrorKind::NewerFormat] {
        let bench = Bench::new();
        bench.faults.always(Op::Swap, Fault::Refused(kind));
        assert_eq!(bench.claim().await.unwrap_err().kind(), kind);
        assert_eq!(bench.trips(), 1);
    }
}

#[tokio::test]
async fn a_damaged_record_is_never_taken_for_none() {
    let bench = Bench::new();
    bench.granted().await;
    bench.faults.next(Op::Swap, 1, Fault::Before);
    bench.faults.always(Op::Load, Fault::Refused(StoreErrorKind::Corrupt));
    assert_eq!(bench.claim().await.unwrap_err().kind(), StoreErrorKind::Corrupt);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_a_store_that_fails() {
    let bench = Bench::new();
    bench.faults.next(Op::Swap, 1, Fault::Hang);
    assert_eq!(bench.claim().await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert_eq!(bench.trips(), 1, "whoever hung once is not waited for again");
    bench.granted().await;
}

#[tokio::test]
async fn a_claim_that_applies_late_within_the_command_is_ours() {
    let bench = Bench::new();
    let (late, load) = (Gate::new(), Gate::new());
    bench.faults.next(Op::Swap, 1, Fault::Late(late.clone()));
    bench.faults.next(Op::Load, 1, Fault::Stall(load.clone()));
    let meanwhile = async {
        // The look saw nothing; then the write takes; then the look is answered.
        load.arrived(1).await;
        late.open();
        late.passed(1).await;
        load.open();
    };
    let ((fence, record), ()) = tokio::join!(bench.granted(), meanwhile);
    let stored = bench.stored().await.unwrap();
    assert_eq!((stored.version(), stored.attempts()), (fence.version(), 1));
    assert_eq!(record.version(), fence.version());
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_applies_after_it_was_given_up_ends_with_its_lease() {
    let bench = Bench::new();
    let late = Gate::new();
    bench.faults.next(Op::Swap, 1, Fault::Late(late.clone()));
    bench.faults.next(Op::Load, 2, Fault::Before);
    assert_eq!(bench.claim().await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    late.open();
    late.passed(1).await;
    assert!(matches!(bench.claim().await.unwrap().0, Claimed::Busy(left) if left == LEASE));
    bench.clock.advance(LEASE);
    let (_, record) = bench.granted().await;
    assert_eq!(record.attempts(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_late_write_of_a_lost_holder_changes_nothing() {
    let bench = Bench::new();
    let late = Gate::new();
    let mut first = bench.granted().await;
    bench.faults.next(Op::Swap, 1, Fault::Late(late.clone()));
    bench.faults.next(Op::Load, 2, Fault::Before);
    bench.change(&mut first, vec![answer()]).await.unwrap_err();
    bench.clock.advance(LEASE);
    let mut second = bench.granted().await;
    late.open();
    late.passed(1).await;
    assert_eq!(bench.stored().await.unwrap().status(), Status::Pending);
    assert_eq!(bench.change(&mut second, vec![save("a")]).await.unwrap(), Ok(()));
    assert_eq!(bench.change(&mut first, vec![answer()]).await.unwrap(), Err(Lost));
}

#[tokio::test]
async fn a_stale_read_grants_nothing() {
    let bench = Bench::new();
    bench.store.freeze().await.unwrap();
    let mut holder = bench.granted().await;
    bench.faults.always(Op::Load, Fault::Stale);
    bench.faults.next(Op::Swap, 1, Fault::Before);
    assert!(matches!(bench.claim().await.unwrap().0, Claimed::Busy(_)), "a replica said that nothing was there");
    assert_eq!(bench.change(&mut holder, vec![answer()]).await.unwrap(), Ok(()));
    bench.faults.nth(Op::Swap, 1, Fault::Before);
    assert!(matches!(bench.claim().await.unwrap().0, Claimed::Replay(..)));
}

#[tokio::test]
async fn after_a_wipe_the_holder_is_told_that_it_lost() {
    let bench = Bench::new();
    let mut holder = bench.granted().await;
    bench.store.wipe().await.unwrap();
    assert_eq!(bench.change(&mut holder, vec![answer()]).await.unwrap(), Err(Lost));
    assert!(bench.stored().await.is_none(), "the answer came back without its claim");
}

#[tokio::test]
async fn a_renewal_that_is_held_up_does_not_revive_what_was_removed() {
    let bench = Bench::new();
    let gate = Gate::new();
    let holder = bench.granted().await;
    bench.faults.next(Op::Swap, 1, Fault::Delay(gate.clone()));
    let (mut renewing, mut leaving) = (holder.clone(), holder);
    let leave = async {
        gate.arrived(1).await;
        bench.change(&mut leaving, vec![Change::Withdraw]).await.unwrap().unwrap();
        gate.open();
    };
    let (renewed, ()) = tokio::join!(bench.change(&mut renewing, vec![Change::Renew]), leave);
    assert_eq!(renewed.unwrap(), Err(Lost));
    assert!(bench.stored().await.is_none());
}

/// A lagging replica that refuses a write and shows the very version that it
/// expected is a failure like any other: it is not asked for ever.
#[tokio::test]
async fn a_store_that_contradicts_itself_is_given_up() {
    #[derive(Debug)]
    struct Lagging(MemoryStore, AtomicUsize);

    #[async_trait::async_trait]
    impl Store for Lagging {
        async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
            self.1.fetch_add(1, Ordering::SeqCst);
            self.0.load(key).await
        }
        async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
            let asked = self.1.fetch_add(1, Ordering::SeqCst);
            assert!(asked < 100, "asked for ever");
            if expected.is_none() {
                self.0.swap(key, None, next).await
            } else {
                self.0.load(key).await.map(Swap::Conflict)
            }
        }
        async fn remove(&self, _: &Key, _: Version) -> Result<bool, StoreError> {
            let asked = self.1.fetch_add(1, Ordering::SeqCst);
            assert!(asked < 100, "asked for ever");
            Ok(false)
        }
        async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
            self.0.scan(query).await
        }
    }

    let ledger = Ledger::new(Lagging(MemoryStore::new(), AtomicUsize::new(0)));
    let done = ledger.apply(&KEY, None, claim()).await.unwrap();
    let Claimed::Granted(fence) = done.output else { panic!("not granted") };
    for change in [save("a"), Change::Withdraw] {
        let command = Fenced { fence, changes: vec![change] };
        let error = ledger.apply(&KEY, done.record.clone(), command).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    }
}

/// A pool that has no connection says so after seconds: three of these, one
/// after another, would keep a client waiting for longer than one time-out.
#[tokio::test(start_paused = true)]
async fn a_store_that_fails_slowly_is_not_asked_again_at_once() {
    #[derive(Debug)]
    struct Exhausted(Duration, Arc<AtomicUsize>);

    impl Exhausted {
        async fn fail<T>(&self) -> Result<T, StoreError> {
            self.1.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(self.0).await;
            Err(StoreError::new(StoreErrorKind::Unavailable, "no connection became free"))
        }
    }

    #[async_trait::async_trait]
    impl Store for Exhausted {
        async fn load(&self, _: &Key) -> Result<Loaded, StoreError> {
            self.fail().await
        }
        async fn swap(&self, _: &Key, _: Option<Version>, _: &Record) -> Result<Swap, StoreError> {
            self.fail().await
        }
        async fn remove(&self, _: &Key, _: Version) -> Result<bool, StoreError> {
            self.fail().await
        }
        async fn scan(&self, _: &Query) -> Result<Page, StoreError> {
            self.fail().await
        }
    }

    for (takes, asked) in [(Duration::from_secs(2), 1), (Duration::from_millis(2), 3)] {
        let count = Arc::new(AtomicUsize::new(0));
        let ledger = Ledger::new(Exhausted(takes, Arc::clone(&count)));
        let error = ledger.apply(&KEY, None, claim()).await.unwrap_err();
        assert_eq!((error.to_string().as_str(), count.load(Ordering::SeqCst)), ("no connection became free", asked));
    }
}
