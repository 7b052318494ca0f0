//! Replies that are lost, late, doubled or old: the ledger's answers stay the
//! same, or are errors.

use std::sync::Arc;

use servers::Redis;
use tower_idempotency::core::StoredRequest;
use tower_idempotency::core::{
    Change, Claim, Claimed, Fence, Fenced, Key, Lost, Mode, Record, Resolution, Resolve, Status,
};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::conformance::{Fault, Faults, FaultyStore, Gate, Op};
use tower_idempotency::store::{RedisStore, Store, StoreError, StoreErrorKind};

use super::support::*;

struct Bench {
    ledger: Ledger,
    store: Arc<FaultyStore<Arc<RedisStore>>>,
    faults: Faults,
    key: Key,
}

impl Bench {
    /// Faults, and a key of its own.
    fn new(redis: &Redis, name: &str) -> Self {
        let store = Arc::new(FaultyStore::new(open(redis)));
        Self { ledger: Ledger::new(Arc::clone(&store)), faults: store.faults(), store, key: key(name) }
    }

    async fn claim(&self) -> Result<(Claimed, Option<Record>), StoreError> {
        let uri = http::Uri::from_static("/payments");
        let request = StoredRequest::capture(&http::Method::POST, &uri, &http::HeaderMap::new(), "{}".into());
        let claim = Claim { mode: Mode::Resumable, request: Some(Arc::new(request)), ..claim() };
        let done = self.ledger.apply(&self.key, None, claim).await?;
        Ok((done.output, done.record))
    }

    async fn granted(&self) -> (Fence, Record) {
        match self.claim().await.unwrap() {
            (Claimed::Granted(fence), Some(record)) => (fence, record),
            other => panic!("not granted: {other:?}"),
        }
    }

    async fn change(&self, holder: &mut (Fence, Record), change: Change) -> Result<Result<(), Lost>, StoreError> {
        let guess = Some(holder.1.clone());
        let done = self.ledger.apply(&self.key, guess, Fenced { fence: holder.0, changes: vec![change] }).await?;
        holder.1 = done.record.unwrap_or_else(|| holder.1.clone());
        Ok(done.output)
    }

    async fn stored(&self) -> Option<Record> {
        self.store.inner().load(&self.key).await.unwrap().record
    }
}

fn save(step: &str) -> Change {
    Change::Save { step: step.into(), value: "value".into() }
}

/// What a claim answered, without what differs from run to run.
fn plain(claimed: Claimed) -> String {
    match claimed {
        Claimed::Busy(_) => "busy".to_owned(),
        // How much longer it is kept is no matter here.
        Claimed::Replay(response, _) => format!("{response:?}"),
        other => format!("{other:?}"),
    }
}

/// Runs one whole operation, and says what every command of it answered.
async fn life(bench: &Bench) -> Vec<String> {
    let mut said = Vec::new();
    let mut note = |what: String| said.push(what);
    let mut first = bench.granted().await;
    note(format!("{:?}", bench.change(&mut first, Change::Begin { step: "a".into() }).await.unwrap()));
    note(format!("{:?}", bench.change(&mut first, save("a")).await.unwrap()));
    note(plain(bench.claim().await.unwrap().0));
    note(format!("{:?}", bench.change(&mut first, Change::Release).await.unwrap()));
    let mut second = bench.granted().await;
    note(format!("{:?}", bench.change(&mut first, save("b")).await.unwrap()));
    note(format!("{:?}", bench.change(&mut second, Change::Park { why: "why".into() }).await.unwrap()));
    note(plain(bench.claim().await.unwrap().0));
    let resolve = Resolve { resolution: Resolution::RunAgain, seen: None, why: None };
    note(format!("{:?}", bench.ledger.apply(&bench.key, None, resolve).await.unwrap().output));
    let mut third = bench.granted().await;
    note(format!("{} {:?}", third.1.attempts(), third.1.steps().len()));
    note(format!("{:?}", bench.change(&mut third, complete(3)).await.unwrap()));
    note(plain(bench.claim().await.unwrap().0));
    // As if it had expired: the next claim is the first of another operation.
    assert!(bench.store.inner().remove(&bench.key, third.1.version()).await.unwrap());
    let mut fresh = bench.granted().await;
    note(format!("{} {:?}", fresh.1.attempts(), bench.change(&mut fresh, Change::Withdraw).await.unwrap()));
    note(format!("{:?}", bench.stored().await.is_some()));
    let mut last = bench.granted().await;
    note(format!("{:?}", bench.change(&mut last, complete(3)).await.unwrap()));
    note(plain(bench.claim().await.unwrap().0));
    said
}

#[tokio::test]
async fn losing_or_doubling_them_changes_no_answer() {
    let redis = Redis::start();
    let expected = life(&Bench::new(&redis, "sound")).await;
    let bench = Bench::new(&redis, "lost");
    bench.faults.lose_every_acknowledgement();
    assert_eq!(life(&bench).await, expected, "every acknowledgement lost");
    let bench = Bench::new(&redis, "twice");
    bench.faults.always(Op::Swap, Fault::Twice);
    bench.faults.always(Op::Remove, Fault::Twice);
    bench.faults.always(Op::Load, Fault::Twice);
    assert_eq!(life(&bench).await, expected, "every call doubled");
    for seed in 0..30 {
        let bench = Bench::new(&redis, &format!("sometimes-{seed}"));
        bench.faults.sometimes(Op::Swap, 0.5, seed, Fault::After);
        assert_eq!(life(&bench).await, expected, "seed {seed}");
    }
}

#[tokio::test]
async fn late_calls_are_ours_or_change_nothing() {
    let redis = Redis::start();
    let bench = Bench::new(&redis, "claim");
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
    assert_eq!((record.version(), bench.stored().await.unwrap().version()), (fence.version(), fence.version()));

    let bench = Bench::new(&redis, "answer");
    let late = Gate::new();
    let mut first = bench.granted().await;
    let mut second = first.clone();
    bench.faults.next(Op::Swap, 1, Fault::Late(late.clone()));
    bench.faults.next(Op::Load, 2, Fault::Before);
    bench.change(&mut first, complete(3)).await.unwrap_err();
    bench.change(&mut second, Change::Release).await.unwrap().unwrap();
    let mut second = bench.granted().await;
    late.open();
    late.passed(1).await;
    assert_eq!(bench.stored().await.unwrap().status(), Status::Pending);
    assert_eq!(bench.change(&mut second, save("a")).await.unwrap(), Ok(()));
    assert_eq!(bench.change(&mut first, complete(3)).await.unwrap(), Err(Lost));

    let bench = Bench::new(&redis, "renewal");
    let gate = Gate::new();
    let holder = bench.granted().await;
    bench.faults.next(Op::Swap, 1, Fault::Delay(gate.clone()));
    let (mut renewing, mut leaving) = (holder.clone(), holder);
    let leave = async {
        gate.arrived(1).await;
        bench.change(&mut leaving, Change::Withdraw).await.unwrap().unwrap();
        gate.open();
    };
    let (renewed, ()) = tokio::join!(bench.change(&mut renewing, Change::Renew), leave);
    assert_eq!(renewed.unwrap(), Err(Lost));
    assert!(bench.stored().await.is_none(), "it was revived");
}

#[tokio::test]
async fn old_and_refused_ones_grant_nothing() {
    let redis = Redis::start();
    let bench = Bench::new(&redis, "stale");
    bench.store.freeze().await.unwrap();
    let mut holder = bench.granted().await;
    bench.faults.always(Op::Load, Fault::Stale);
    bench.faults.next(Op::Swap, 1, Fault::Before);
    assert!(matches!(bench.claim().await.unwrap().0, Claimed::Busy(_)), "a replica said that nothing was there");
    bench.faults.clear();
    bench.store.wipe().await.unwrap();
    assert_eq!(bench.change(&mut holder, complete(3)).await.unwrap(), Err(Lost));
    assert!(bench.stored().await.is_none(), "the answer came back without its claim");
    for kind in [StoreErrorKind::Full, StoreErrorKind::Corrupt, StoreErrorKind::NewerFormat] {
        bench.faults.next(Op::Swap, 1, Fault::Refused(kind));
        assert_eq!(bench.claim().await.unwrap_err().kind(), kind);
    }
    bench.granted().await;
}
