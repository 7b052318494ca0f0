//! What an operator sees and decides, on any store.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tower_idempotency::core::{
    Change, Claim, Fence, Fenced, Fingerprint, IdempotencyKey, Key, Mode, Reached, Resolution, StoredResponse,
};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::Store;
use tower_idempotency::{ListState, Listing, OperationState, Operator, OperatorError};

const HOUR: Duration = Duration::from_secs(3600);

fn key(name: &str) -> Key {
    Key::new("tenant-1", &IdempotencyKey::parse(name.as_bytes()).unwrap())
}

async fn held(store: &Arc<dyn Store>, name: &str, mode: Mode) -> Fence {
    let claim = Claim { fingerprint: Fingerprint::of([b"x".as_slice()]), mode, lease: HOUR, request: None };
    Ledger::new(Arc::clone(store)).apply(&key(name), None, claim).await.unwrap();
    Fence::of(store.load(&key(name)).await.unwrap().record.unwrap().version())
}

async fn ended(store: &Arc<dyn Store>, name: &str, mode: Mode, change: Change) {
    let fence = held(store, name, mode).await;
    let ends = Fenced { fence, changes: vec![change] };
    Ledger::new(Arc::clone(store)).apply(&key(name), None, ends).await.unwrap();
}

fn complete() -> Change {
    let response = Arc::new(StoredResponse::capture(StatusCode::CREATED, &HeaderMap::new(), None));
    Change::Complete { response, retention: HOUR, reached: Reached::All }
}

async fn listed(operator: &Operator, state: ListState) -> Vec<(Key, OperationState)> {
    let (mut all, mut listing) = (Vec::new(), Listing::new(state).limit(2));
    loop {
        let page = operator.list(&listing).await.unwrap();
        all.extend(page.operations.iter().map(|shown| (shown.key, shown.state())));
        let Some(next) = page.next else { return all };
        listing = listing.after(next);
    }
}

/// Fills an empty store, looks at it, and decides. It indexes complete records, or says
/// that it does not.
pub(crate) async fn look_and_decide(store: Arc<dyn Store>, indexes_complete: bool) {
    held(&store, "running", Mode::Resumable).await;
    ended(&store, "unknown", Mode::AtMostOnce, Change::Release).await;
    ended(&store, "parked", Mode::Resumable, Change::Park { why: "the bank is asked".into() }).await;
    ended(&store, "one", Mode::Resumable, complete()).await;
    ended(&store, "two", Mode::Resumable, complete()).await;
    let operator = Operator::new(Arc::clone(&store)).by("eve").because("the bank called");
    look(&operator, indexes_complete).await;
    decide(&operator).await;
    assert_eq!(listed(&operator, ListState::NeedsAttention).await, []);
}

async fn look(operator: &Operator, indexes_complete: bool) {
    let stuck = [(key("parked"), OperationState::Parked), (key("unknown"), OperationState::OutcomeUnknown)];
    assert_eq!(listed(operator, ListState::NeedsAttention).await, stuck);
    assert_eq!(listed(operator, ListState::Unfinished).await.len(), 3);
    assert_eq!(listed(operator, ListState::Due).await, stuck[1..]);
    let counts = operator.counts().await.unwrap();
    assert_eq!((counts.needs_attention.count, counts.unfinished.count, counts.due.count), (2, 3, 1));
    assert_eq!(counts.complete.map(|complete| complete.count), indexes_complete.then_some(2));
    if indexes_complete {
        let complete = listed(operator, ListState::Complete).await;
        assert_eq!(complete.len(), 2, "{complete:?}");
    } else {
        let refused = operator.list(&Listing::new(ListState::Complete)).await;
        assert!(matches!(&refused, Err(OperatorError::NotIndexed(_))), "{refused:?}");
        assert!(refused.unwrap_err().to_string().contains("index_complete"), "it names the option");
    }
    let elsewhere = operator.find("tenant-2", "parked").await;
    assert!(matches!(elsewhere, Err(OperatorError::Absent)), "{elsewhere:?}");
}

async fn decide(operator: &Operator) {
    let shown = operator.find("tenant-1", "parked").await.unwrap();
    operator.retry(&shown).await.unwrap();
    let stale = operator.resolve(&shown, Resolution::Park { why: "late".into() }).await;
    assert!(matches!(stale, Err(OperatorError::Overtaken)), "{stale:?}");
    let shown = operator.find_by_reference(&shown.reference()).await.unwrap();
    let last = shown.record.history().pop().unwrap();
    assert_eq!((last.by.as_deref(), last.text.as_deref()), (Some("eve"), Some("run again: the bank called")));
    let shown = operator.find("tenant-1", "unknown").await.unwrap();
    let response = Arc::new(StoredResponse::capture(StatusCode::OK, &HeaderMap::new(), None));
    operator.resolve(&shown, Resolution::Respond { response, retention: HOUR }).await.unwrap();
    let busy = operator.retry(&operator.find("tenant-1", "running").await.unwrap()).await;
    assert!(matches!(busy, Err(OperatorError::Busy(_))), "{busy:?}");
    let (shown, again) = (operator.show(&key("one")).await.unwrap(), operator.show(&key("one")).await.unwrap());
    operator.forget(&shown).await.unwrap();
    let gone = operator.forget(&again).await;
    assert!(matches!(gone, Err(OperatorError::Overtaken)), "{gone:?}");
    let absent = operator.show(&key("one")).await;
    assert!(matches!(absent, Err(OperatorError::Absent)), "{absent:?}");
}
