//! What needs an operator is reported once; nothing else is reported.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tower_idempotency::clock::ManualClock;
use tower_idempotency::core::{
    Change, Claim, Claimed, Fence, Fenced, Fingerprint, IdempotencyKey, Key, Labels, Mode, Reached, Resolution,
    StoredResponse,
};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::conformance::{Damage, FaultyStore, Op};
use tower_idempotency::store::{Durability, DurabilityLevel, Epoch, MemoryStore, StoreErrorKind};
use tower_idempotency::{EventKind, Finding, FindingKind, Operator, Watched, Watcher};

use crate::support::lab::{Lab, post, reply, secs, send, serve, stored_key};
use crate::support::settle;
use crate::support::store::{Call, Fault, Faulty};

/// A store on a clock of its own, and who watches it.
struct Watch {
    store: Faulty,
    clock: ManualClock,
    ledger: Ledger,
    watcher: Watcher,
    told: Told,
}

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Finding>>>);

impl Told {
    fn hook(&self, watcher: Watcher) -> Watcher {
        let told = self.clone();
        watcher.on_finding(move |finding| {
            told.0.lock().unwrap().push(finding);
            std::future::ready(Ok(()))
        })
    }

    /// What was told since the last time: its kind, and whether it is over.
    fn take(&self) -> Vec<(FindingKind, bool)> {
        self.full().iter().map(|finding| (finding.kind, finding.over)).collect()
    }

    fn full(&self) -> Vec<Finding> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Watch {
    fn new() -> Self {
        let clock = ManualClock::new();
        let store = Faulty::on(&clock);
        let (ledger, told) = (Ledger::new(store.clone()), Told::default());
        let watcher = told.hook(Watcher::new(store.clone()).pending_for(secs(900)).paid_for(secs(300)));
        Self { store, clock, ledger, watcher, told }
    }

    async fn round(&self) -> Vec<(FindingKind, bool)> {
        self.watcher.run_once().await;
        self.told.take()
    }

    async fn claim(&self, key: &str, mode: Mode) -> Fence {
        let claim = Claim {
            fingerprint: Fingerprint::of([b"x".as_slice()]),
            mode,
            lease: secs(60),
            request: None,
            labels: Labels::new(),
        };
        match self.ledger.apply(&stored_key(key), None, claim).await.unwrap().output {
            Claimed::Granted(fence) => fence,
            other => panic!("{other:?}"),
        }
    }

    async fn change(&self, key: &str, fence: Fence, changes: Vec<Change>) {
        self.ledger.apply(&stored_key(key), None, Fenced { fence, changes }).await.unwrap().output.unwrap();
    }

    async fn complete(&self, key: &str, fence: Fence) {
        self.change(
            key,
            fence,
            vec![Change::Complete { response: answer(), retention: secs(60), reached: Reached::All }],
        )
        .await;
    }

    async fn resolve(&self, key: &str, resolution: Resolution) {
        let operator = Operator::new(self.store.clone());
        operator.resolve(&operator.find("", key).await.unwrap(), resolution).await.unwrap();
    }
}

fn answer() -> Arc<StoredResponse> {
    Arc::new(StoredResponse::capture(http::StatusCode::OK, &http::HeaderMap::new(), Some(Bytes::new())))
}

fn begin(step: &str) -> Change {
    Change::Begin { step: step.into() }
}

fn save(step: &str) -> Change {
    Change::Save { step: step.into(), value: Bytes::from_static(b"1") }
}

const ONCE: bool = false;
const OVER: bool = true;

#[tokio::test]
async fn a_healthy_store_is_quiet_and_an_idle_one_costs_one_scan() {
    let watch = Watch::new();
    for round in 1..=5 {
        assert_eq!(watch.round().await, []);
        assert_eq!((watch.store.scans(), watch.store.calls(), watch.store.asked()), (round, 0, 1));
    }
    // What runs as it should is no finding, and neither is what is done.
    let fence = watch.claim("k", Mode::AtMostOnce).await;
    watch.claim("l", Mode::Resumable).await;
    assert_eq!(watch.round().await, []);
    watch.complete("k", fence).await;
    assert_eq!(watch.round().await, []);
}

/// Of what is in order only one is looked at closely, for the store's time.
#[tokio::test]
async fn records_that_are_in_order_are_not_loaded() {
    let watch = Watch::new();
    for n in 0..700 {
        watch.claim(&format!("k{n}"), Mode::Resumable).await;
    }
    let loads = watch.store.loads();
    let watched = watch.watcher.run_once().await;
    assert_eq!((watched.scanned, watched.loaded, watched.capped), (700, 1, false), "{watched:?}");
    assert_eq!(watch.store.loads() - loads, 1);
    assert_eq!(watch.told.take(), []);
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_stays_pending_is_told_once_and_when_it_is_over() {
    let watch = Watch::new();
    let fence = watch.claim("k", Mode::Resumable).await;
    for _ in 0..20 {
        watch.clock.advance(secs(44));
        watch.change("k", fence, vec![Change::Renew]).await;
        assert_eq!(watch.round().await, [], "its holder is alive, and it is not too long yet");
    }
    watch.clock.advance(secs(20));
    watch.watcher.run_once().await;
    let [finding] = watch.told.full().try_into().unwrap();
    assert_eq!((finding.kind, finding.over, finding.key), (FindingKind::Pending, false, Some(stored_key("k"))));
    assert_eq!(Some(finding.since), watch.store.peek(&stored_key("k")).await.unwrap().created_at());
    assert!(finding.to_string().contains(&stored_key("k").to_string()), "{finding}");
    assert_eq!(watch.round().await, []);
    watch.change("k", fence, vec![Change::Renew]).await;
    assert_eq!(watch.round().await, [], "a sign of life is no news");
    watch.complete("k", fence).await;
    assert_eq!(watch.round().await, [(FindingKind::Pending, OVER)]);
    assert_eq!(watch.round().await, []);
}

#[tokio::test(start_paused = true)]
async fn what_is_paid_has_less_time_and_a_change_is_told_again() {
    let watch = Watch::new();
    let fence = watch.claim("k", Mode::Resumable).await;
    watch.change("k", fence, vec![begin("charge"), save("charge")]).await;
    for _ in 0..6 {
        watch.clock.advance(secs(49));
        watch.change("k", fence, vec![Change::Renew]).await;
    }
    assert_eq!(watch.round().await, []);
    watch.clock.advance(secs(10));
    assert_eq!(watch.round().await, [(FindingKind::Paid, ONCE)]);
    assert_eq!(watch.round().await, []);
    watch.change("k", fence, vec![Change::Park { why: "look".into() }]).await;
    watch.watcher.run_once().await;
    let [parked] = watch.told.full().try_into().unwrap();
    assert_eq!((parked.kind, parked.cause.as_str(), parked.over), (FindingKind::Parked, "look", false));
    assert_eq!(watch.round().await, []);
    watch.resolve("k", Resolution::Park { why: "look again".into() }).await;
    assert_eq!(watch.round().await, [(FindingKind::Parked, ONCE)], "for another reason");
    watch.resolve("k", Resolution::Respond { response: answer(), retention: secs(60) }).await;
    assert_eq!(watch.round().await, [(FindingKind::Parked, OVER)]);
}

#[tokio::test(start_paused = true)]
async fn a_step_in_doubt_is_told_once_nobody_sees_to_it() {
    let watch = Watch::new();
    let fence = watch.claim("k", Mode::Resumable).await;
    watch.change("k", fence, vec![begin("charge")]).await;
    watch.clock.advance(secs(119));
    assert_eq!(watch.round().await, [], "a completer may still see to it");
    watch.clock.advance(secs(1));
    watch.watcher.run_once().await;
    let [doubt] = watch.told.full().try_into().unwrap();
    assert_eq!((doubt.kind, doubt.over), (FindingKind::InDoubt, false));
    assert!(doubt.cause.contains("\"charge\""), "{}", doubt.cause);
    assert_eq!(watch.round().await, []);
    // Someone does: whoever resumes it asks about the step.
    let fence = watch.claim_again("k").await;
    assert_eq!(watch.round().await, [(FindingKind::InDoubt, OVER)]);
    watch.change("k", fence, vec![begin("mail"), Change::Release]).await;
    watch.clock.advance(secs(60));
    assert_eq!(watch.round().await, [(FindingKind::InDoubt, ONCE)]);
}

impl Watch {
    async fn claim_again(&self, key: &str) -> Fence {
        self.claim(key, Mode::Resumable).await
    }
}

#[tokio::test(start_paused = true)]
async fn at_most_once_a_dead_holder_is_doubt_even_without_steps() {
    let watch = Watch::new();
    watch.claim("k", Mode::AtMostOnce).await;
    let fence = watch.claim("free", Mode::AtMostOnce).await;
    watch.claim("resumable", Mode::Resumable).await;
    watch.change("free", fence, vec![Change::Release]).await;
    watch.clock.advance(secs(60));
    assert_eq!(watch.round().await, [(FindingKind::InDoubt, ONCE)], "the one that was given up");
    watch.clock.advance(secs(60));
    assert_eq!(watch.round().await, [(FindingKind::InDoubt, ONCE)], "the one whose lease ran out");
    watch.resolve("k", Resolution::RunAgain).await;
    assert_eq!(watch.round().await, [(FindingKind::InDoubt, OVER)], "it was decided");
}

/// A Pending finding turns into doubt without any write.
#[tokio::test(start_paused = true)]
async fn time_alone_can_change_a_finding() {
    let watch = Watch::new();
    let fence = watch.claim("k", Mode::AtMostOnce).await;
    for _ in 0..16 {
        watch.clock.advance(secs(59));
        watch.change("k", fence, vec![Change::Renew]).await;
    }
    assert_eq!(watch.round().await, [(FindingKind::Pending, ONCE)]);
    watch.clock.advance(secs(120));
    assert_eq!(watch.round().await, [(FindingKind::InDoubt, ONCE)]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_stored_is_told_until_it_is() {
    let lab = Lab::new();
    let layer = lab.layer();
    let told = Told::default();
    let watcher = told.hook(Watcher::new(&layer));
    let app = serve(&layer, |_| async { Ok(reply(201, "paid")) });
    lab.store.fail(|call| match call {
        Call::Swap(tower_idempotency::Status::Complete) => Fault::Before(StoreErrorKind::Unavailable),
        _ => Fault::None,
    });
    send(&app, post("k")).await.assert_first(201, "paid");
    watcher.run_once().await;
    let [finding] = told.full().try_into().unwrap();
    assert_eq!((finding.kind, finding.key), (FindingKind::Unsaved, Some(stored_key("k"))));
    watcher.run_once().await;
    assert_eq!(told.take(), []);
    lab.store.heal();
    tokio::time::sleep(secs(10)).await;
    watcher.run_once().await;
    assert_eq!(told.take(), [(FindingKind::Unsaved, OVER)]);
    assert_eq!(lab.events.count("Found"), 2, "events say the same");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_given_up_stays_until_someone_decides() {
    let lab = Lab::new();
    let layer = lab.layer_with(|engine| engine.max_execution(secs(30)));
    let told = Told::default();
    let watcher = told.hook(Watcher::new(&layer).in_doubt_for(secs(3600)));
    let app = serve(&layer, |_| async { Ok(reply(201, "paid")) });
    lab.store.fail(|call| match call {
        Call::Swap(tower_idempotency::Status::Complete) => Fault::Before(StoreErrorKind::Unavailable),
        _ => Fault::None,
    });
    send(&app, post("k")).await.assert_first(201, "paid");
    watcher.run_once().await;
    tokio::time::sleep(secs(300)).await;
    assert_eq!(lab.events.count("SaveFailed"), 1);
    lab.store.heal();
    for _ in 0..2 {
        watcher.run_once().await;
    }
    assert_eq!(
        told.take(),
        [(FindingKind::Unsaved, ONCE), (FindingKind::Unsaved, ONCE)],
        "first waiting, then given up"
    );
    let resolution = Resolution::Respond { response: answer(), retention: secs(60) };
    lab.decide("k", resolution).await;
    watcher.run_once().await;
    assert_eq!(told.take(), [(FindingKind::Unsaved, OVER)]);
}

#[tokio::test(start_paused = true)]
async fn a_store_below_its_required_durability_is_told() {
    let watch = Watch::new();
    let watch = Watch {
        watcher: watch.told.hook(Watcher::new(watch.store.clone()).require(DurabilityLevel::PowerLoss)),
        ..watch
    };
    watch.store.survives(Durability::of(DurabilityLevel::PowerLoss));
    assert_eq!(watch.round().await, []);
    let mut weak = Durability::of(DurabilityLevel::AppCrash);
    weak.warnings.push("appendfsync is no".into());
    watch.store.survives(weak);
    assert_eq!(watch.round().await, [], "it is asked once a minute");
    tokio::time::sleep(secs(61)).await;
    watch.watcher.run_once().await;
    let [finding] = watch.told.full().try_into().unwrap();
    assert_eq!(finding.kind, FindingKind::BelowDurability);
    assert!(finding.cause.contains("power loss") && finding.cause.contains("appendfsync"), "{finding}");
    tokio::time::sleep(secs(61)).await;
    assert_eq!(watch.round().await, []);
    watch.store.survives(Durability::of(DurabilityLevel::MachineLoss));
    tokio::time::sleep(secs(61)).await;
    assert_eq!(watch.round().await, [(FindingKind::BelowDurability, OVER)]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_wiped_or_restored_is_told() {
    let watch = Watch::new();
    let says = |id, mark| {
        let mut durability = Durability::of(DurabilityLevel::Nothing);
        durability.epoch = Some(Epoch { id, mark });
        watch.store.survives(durability)
    };
    says(1, 10);
    assert_eq!(watch.round().await, []);
    for (id, mark, news) in [(1, 11, None), (1, 9, Some("earlier")), (1, 10, None), (2, 1, Some("wiped")), (2, 2, None)]
    {
        says(id, mark);
        tokio::time::sleep(secs(61)).await;
        watch.watcher.run_once().await;
        let told = watch.told.full();
        match news {
            None => assert_eq!(told, [], "{id} {mark}"),
            Some(word) => {
                assert_eq!((told.len(), told[0].kind), (1, FindingKind::EpochChanged));
                assert!(told[0].cause.contains(word), "{}", told[0]);
            }
        }
    }
    tokio::time::sleep(secs(24 * 60 * 60)).await;
    says(2, 3);
    assert_eq!(watch.round().await, [(FindingKind::EpochChanged, OVER)]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_told_once_for_an_outage() {
    let watch = Watch::new();
    let fence = watch.claim("k", Mode::Resumable).await;
    watch.change("k", fence, vec![Change::Park { why: "look".into() }]).await;
    assert_eq!(watch.round().await, [(FindingKind::Parked, ONCE)]);
    for fault in [Fault::Before(StoreErrorKind::Unavailable), Fault::Hang] {
        watch.store.fail(move |_| fault);
        let away = watch.round().await;
        assert_eq!(away.len(), usize::from(fault != Fault::Hang), "{away:?}: another error of one outage is no news");
        assert_eq!(watch.round().await, []);
    }
    watch.store.heal();
    assert_eq!(watch.round().await, [(FindingKind::StoreAway, OVER)], "and what was found before still is");
    watch.resolve("k", Resolution::Respond { response: answer(), retention: secs(60) }).await;
    assert_eq!(watch.round().await, [(FindingKind::Parked, OVER)]);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_told_and_hides_no_other() {
    let watch = Watch::new();
    let fence = watch.claim("k", Mode::Resumable).await;
    watch.change("k", fence, vec![Change::Park { why: "look".into() }]).await;
    watch.store.fail_once(Call::Load, Fault::Before(StoreErrorKind::Corrupt));
    watch.claim("l", Mode::Resumable).await;
    watch.store.fail_once(Call::Load, Fault::Before(StoreErrorKind::Corrupt));
    let kinds = watch.round().await;
    assert!(
        kinds.contains(&(FindingKind::Unreadable, ONCE)) && kinds.contains(&(FindingKind::Parked, ONCE)),
        "{kinds:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_round_is_bounded_says_so_and_the_next_goes_on() {
    let clock = ManualClock::new();
    let store = Faulty::over(MemoryStore::with_clock(clock.clone()).max_entries(50_000));
    let (ledger, told) = (Ledger::new(store.clone()), Told::default());
    let watcher = told.hook(Watcher::new(store.clone()));
    let key = |n: usize| Key::new("", &IdempotencyKey::parse(format!("k{n}").as_bytes()).unwrap());
    let claim = Claim {
        fingerprint: Fingerprint::of([b"x".as_slice()]),
        mode: Mode::Resumable,
        lease: secs(60),
        request: None,
        labels: Labels::new(),
    };
    for n in 0..12_000 {
        ledger.apply(&key(n), None, claim.clone()).await.unwrap();
    }
    // Parked, it comes after all others.
    let resolution = Resolution::Park { why: "look".into() };
    clock.advance(secs(60));
    let operator = Operator::new(store.clone());
    operator.resolve(&operator.show(&key(1)).await.unwrap(), resolution).await.unwrap();
    let first = watcher.run_once().await;
    assert_eq!((first.scanned, first.capped), (10_000, true), "{first:?}");
    assert_eq!(told.take(), [(FindingKind::Capped, ONCE)]);
    let second = watcher.run_once().await;
    assert_eq!((second.scanned, second.capped), (2000, true), "{second:?}");
    assert_eq!(told.take(), [(FindingKind::Parked, ONCE)]);
    // In doubt all of them, and no more are kept than it says.
    clock.advance(secs(3600));
    for _ in 0..15 {
        let Watched { loaded, open, .. } = watcher.run_once().await;
        assert!(loaded <= 1000 && open <= 1001, "{loaded} {open}");
    }
    let told = told.take();
    assert!(
        told.len() <= 1000 && told.iter().all(|(kind, over)| *kind == FindingKind::Pending && !over),
        "{}",
        told.len()
    );
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_fails_hangs_or_panics_is_told_again() {
    let watch = Watch::new();
    let fence = watch.claim("k", Mode::Resumable).await;
    watch.change("k", fence, vec![Change::Park { why: "look".into() }]).await;
    let calls = Arc::new(Mutex::new(0));
    let count = Arc::clone(&calls);
    let watcher = Watcher::new(watch.store.clone()).on_finding(move |_| {
        let call = {
            let mut calls = count.lock().unwrap();
            *calls += 1;
            *calls
        };
        async move {
            match call {
                1 => Err("the pager is away".to_owned()),
                2 => std::future::pending().await,
                3 => panic!("the hook's own"),
                _ => Ok(()),
            }
        }
    });
    for round in [1, 2, 3, 4, 4, 4] {
        watcher.run_once().await;
        assert_eq!(*calls.lock().unwrap(), round);
    }
}

#[tokio::test(start_paused = true)]
async fn it_runs_until_it_is_told_to_stop() {
    let watch = Watch::new();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (store, watcher) = (watch.store.clone(), Watcher::new(watch.store.clone()).every(secs(10)));
    let running = tokio::spawn(async move { watcher.run(async { stopped.await.unwrap_or(()) }).await });
    tokio::time::sleep(secs(100)).await;
    let scans = store.scans();
    assert!((7..=20).contains(&scans), "{scans}");
    stop.send(()).unwrap();
    running.await.unwrap();
    tokio::time::sleep(secs(100)).await;
    assert_eq!(store.scans(), scans);
}

/// Whatever is told, of the key it is the hash.
#[tokio::test(start_paused = true)]
async fn no_key_is_told() {
    const SECRET: &str = "order-of-ann-4711";
    let lab = Lab::new();
    let layer = lab.layer();
    let told = Told::default();
    let watcher = told.hook(Watcher::new(&layer));
    let app = serve(&layer, |_| async { panic!("the handler's own") });
    send(&app, post(SECRET)).await;
    tokio::time::sleep(Duration::from_secs(61)).await;
    watcher.run_once().await;
    settle().await;
    let findings = told.full();
    assert_eq!(findings.len(), 1);
    let mut said = format!("{findings:?} {}", findings[0]);
    assert!(lab.events.all().iter().any(|event| matches!(event.kind, EventKind::Found { .. })));
    for event in lab.events.all() {
        said.push_str(&format!("{event:?}"));
    }
    assert!(!said.contains(SECRET), "{said}");
}

/// More than a page, and more than there is room for: the findings are bounded, what
/// lies behind is judged, and what is known is not read again.
#[tokio::test(start_paused = true)]
async fn what_a_scan_can_not_read_is_told_once_and_hides_no_other() {
    for (damaged, room) in [(600, 600), (3000, 1000)] {
        let clock = ManualClock::new();
        let store = Arc::new(FaultyStore::new(MemoryStore::with_clock(clock.clone())));
        let (ledger, told) = (Ledger::new(Arc::clone(&store)), Told::default());
        let watcher = told.hook(Watcher::new(store.clone()));
        let claim = Claim {
            fingerprint: Fingerprint::of([b"x".as_slice()]),
            mode: Mode::Resumable,
            lease: secs(60),
            request: None,
            labels: Labels::new(),
        };
        for n in 0..damaged {
            let key = stored_key(&n.to_string());
            ledger.apply(&key, None, claim.clone()).await.unwrap();
            store.damage(key, Damage::NewerFormat);
        }
        clock.advance(secs(1));
        let done = ledger.apply(&stored_key("parked"), None, claim).await.unwrap();
        let fence = Fence::of(done.record.unwrap().version());
        let park = vec![Change::Park { why: "look".into() }];
        ledger.apply(&stored_key("parked"), None, Fenced { fence, changes: park }).await.unwrap().output.unwrap();
        let (mut kinds, mut passed) = (Vec::new(), 0);
        for _ in 0..4 {
            let watched = watcher.run_once().await;
            assert!(watched.open <= 1003, "{watched:?}");
            passed += watched.unreadable;
            kinds.extend(told.take());
        }
        let count = |kind| kinds.iter().filter(|told| **told == (kind, ONCE)).count();
        assert_eq!(count(FindingKind::Unreadable), room, "each once");
        assert!(passed >= damaged, "all were counted: {passed}");
        if damaged == room {
            assert_eq!(count(FindingKind::Parked), 1);
        } else {
            assert_eq!(count(FindingKind::Capped), 1, "there is no room, and it says so");
        }
        store.faults().reset_counts();
        watcher.run_once().await;
        assert!(store.faults().calls(Op::Load) < 10, "it reads them again: {}", store.faults().calls(Op::Load));
    }
}
