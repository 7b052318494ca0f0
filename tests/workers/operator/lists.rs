//! What an operator sees of many operations.

use tower_idempotency::core::{Key, Resolution, Status};
use tower_idempotency::store::{Store, StoreErrorKind, Swap};
use tower_idempotency::{
    Engine, FindingKind, IdempotencyLayer, Label, Labels, ListPosition, ListState, Listed, Listing, OperationState,
    Operator, OperatorError, Runner, Scope,
};

use super::{abandoned, secs};
use crate::support::bodies::Failure;
use crate::support::lab::{Lab, numbered, post, reply, request, send, serve, stored_key};
use crate::support::store::{Call, Fault};

async fn park(operator: &Operator, key: &str) {
    let shown = operator.find("", key).await.unwrap();
    operator.resolve(&shown, Resolution::Park { why: "the bank is asked".into() }).await.unwrap();
}

/// All pages, from the first to the last.
async fn all(operator: &Operator, mut listing: Listing) -> Vec<(Key, OperationState)> {
    let mut all = Vec::new();
    loop {
        let Listed { operations, next, .. } = operator.list(&listing).await.unwrap();
        assert!(operations.len() <= listing.limit);
        all.extend(operations.iter().map(|shown| (shown.key, shown.state())));
        let Some(next) = next else { return all };
        // As a form carries it.
        listing = listing.after(next.to_string().parse().unwrap());
    }
}

/// Operations that retries will finish: one each, of a handler that fails for now.
async fn released(lab: &Lab, names: impl IntoIterator<Item = String>) {
    let app = serve(&lab.layer().resumable(), |_| async { Ok(reply(503, "later")) });
    for name in names {
        send(&app, post(&name)).await.assert_first(503, "later");
    }
}

#[tokio::test(start_paused = true)]
async fn what_needs_attention_is_parked_or_of_unknown_outcome_and_nothing_else() {
    let (lab, clock) = Lab::manual();
    let (app, _) = numbered(&lab.layer());
    send(&app, post("complete")).await.assert_first(201, "charge 1");
    released(&lab, (0..30).map(|n| format!("later{n}"))).await;
    let (_, _) = abandoned(&lab).await;
    let operator = Operator::new(lab.store.clone());
    for limit in [1, 2, 50] {
        let listed = all(&operator, Listing::needs_attention().limit(limit)).await;
        assert_eq!(listed, [(stored_key("k"), OperationState::OutcomeUnknown)], "in pages of {limit}");
    }
    park(&operator, "later7").await;
    clock.advance(secs(1));
    park(&operator, "later3").await;
    let expected = [
        (stored_key("later7"), OperationState::Parked),
        (stored_key("later3"), OperationState::Parked),
        (stored_key("k"), OperationState::OutcomeUnknown),
    ];
    for limit in [1, 2, 3, 50] {
        assert_eq!(all(&operator, Listing::needs_attention().limit(limit)).await, expected, "in pages of {limit}");
    }
    let parked = Listing::needs_attention().finding(FindingKind::Parked);
    assert_eq!(all(&operator, parked).await, expected[..2]);
    // What takes too long: from then on each of them does.
    clock.advance(secs(3600));
    assert_eq!(all(&operator, Listing::needs_attention()).await.len(), 31);
}

#[tokio::test(start_paused = true)]
async fn each_list_has_what_its_name_says() {
    let (lab, clock) = Lab::manual();
    let (app, _) = numbered(&lab.layer());
    for name in ["one", "two", "three"] {
        clock.advance(secs(1));
        send(&app, post(name)).await;
    }
    released(&lab, ["later".to_owned()]).await;
    let waits = serve(&lab.layer(), |_| std::future::pending());
    let client = crate::support::lab::spawn(&waits, post("running"));
    crate::support::settle().await;
    let operator = Operator::new(lab.store.clone());
    let complete = ["three", "two", "one"].map(|name| (stored_key(name), OperationState::Complete));
    for limit in [1, 2, 50] {
        assert_eq!(all(&operator, Listing::new(ListState::Complete).limit(limit)).await, complete, "latest first");
    }
    let unfinished = || all(&operator, Listing::new(ListState::Unfinished));
    let due = || all(&operator, Listing::new(ListState::Due));
    let (later, running) = (stored_key("later"), stored_key("running"));
    assert_eq!(unfinished().await, [(later, OperationState::Waiting), (running, OperationState::Running)]);
    assert!(due().await.is_empty());
    clock.advance(secs(10));
    assert_eq!(due().await, [(later, OperationState::Due)]);
    assert_eq!(unfinished().await, [(later, OperationState::Due), (running, OperationState::Running)]);
    let old = |age| all(&operator, Listing::new(ListState::Complete).older_than(secs(age)));
    assert_eq!(old(11).await, complete[1..]);
    assert_eq!(old(3600).await, []);
    client.abort();
}

#[tokio::test(start_paused = true)]
async fn a_page_ends_where_it_has_cost_enough() {
    let (lab, _) = Lab::manual();
    released(&lab, (0..1100).map(|n| format!("k{n}"))).await;
    let operator = Operator::new(lab.store.clone());
    let loads = crate::support::Count::default();
    let counted = loads.clone();
    lab.store.fail(move |call| {
        if matches!(call, Call::Load) {
            counted.up();
        }
        Fault::None
    });
    let first = operator.list(&Listing::needs_attention().limit(200)).await.unwrap();
    assert!(first.operations.is_empty() && first.next.is_some(), "there is more");
    assert!((1000..1200).contains(&first.looked_at), "{}", first.looked_at);
    // One for the store's time; and the back-off of a few may be over at once.
    assert!(loads.get() < 20, "what is well is not loaded: {}", loads.get());
    assert!(all(&operator, Listing::needs_attention().limit(200)).await.is_empty());
    // What has to be loaded to be told costs more, and so a page has less of it.
    let parked = Listing::new(ListState::Unfinished).finding(FindingKind::Parked).limit(200);
    let first = operator.list(&parked).await.unwrap();
    assert!(first.operations.is_empty() && first.next.is_some());
    assert!((300..500).contains(&first.looked_at), "{}", first.looked_at);
    assert_eq!(all(&operator, Listing::new(ListState::Unfinished).limit(200)).await.len(), 1100);
}

#[tokio::test(start_paused = true)]
async fn what_only_its_caller_goes_on_with_is_not_stuck() {
    let lab = Lab::new();
    let runner = Runner::new(lab.engine());
    let run = runner.run("jobs", "17", "", |_| async { Err::<u64, _>(Failure("later")) });
    run.await.unwrap_err();
    let operator = Operator::new(lab.store.clone());
    assert_eq!(all(&operator, Listing::needs_attention()).await, []);
    let unfinished = all(&operator, Listing::new(ListState::Unfinished)).await;
    assert_eq!(unfinished.iter().map(|(_, state)| *state).collect::<Vec<_>>(), [OperationState::Waiting]);
}

#[tokio::test(start_paused = true)]
async fn counts_say_how_many_there_are_and_for_how_long() {
    let (lab, clock) = Lab::manual();
    let operator = Operator::new(lab.store.clone());
    assert_eq!(operator.counts().await.unwrap().complete.map(|complete| complete.count), Some(0));
    let (app, _) = numbered(&lab.layer());
    send(&app, post("complete")).await;
    let _ = abandoned(&lab).await;
    released(&lab, (0..3).map(|n| format!("later{n}"))).await;
    park(&operator, "later0").await;
    clock.advance(secs(60));
    let counts = operator.counts().await.unwrap();
    assert_eq!((counts.needs_attention.count, counts.needs_attention.oldest), (2, Some(secs(60))));
    assert_eq!((counts.unfinished.count, counts.due.count), (4, 3));
    assert!(counts.due.oldest.is_some_and(|oldest| oldest <= secs(60) && oldest > secs(50)), "{counts:?}");
    assert_eq!(counts.complete.map(|complete| (complete.count, complete.oldest)), Some((1, None)));
    let capped = [counts.needs_attention, counts.unfinished, counts.due].iter().any(|count| count.capped);
    assert!(!capped, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_no_empty_list() {
    let lab = Lab::new();
    lab.store.fail(|_| Fault::Before(StoreErrorKind::Unavailable));
    let operator = Operator::new(Engine::new(lab.store.clone()));
    operator.list(&Listing::needs_attention()).await.unwrap_err();
    operator.counts().await.unwrap_err();
}

#[test]
fn a_position_is_a_text_and_nothing_else_is_one() {
    for text in ["", "x", "n.", "n.1", "n.1.ff", "f.-1.", "n.x.y", "g", "f f"] {
        let parsed = text.parse::<ListPosition>();
        assert!(parsed.is_err(), "{text:?}: {parsed:?}");
        assert!(parsed.unwrap_err().to_string().contains("; "));
    }
    let key = "ab".repeat(32);
    for text in ["n".to_owned(), "f".to_owned(), format!("n.17.{key}"), format!("f.{}.{key}", u64::MAX)] {
        assert_eq!(text.parse::<ListPosition>().unwrap().to_string(), text);
    }
}

#[tokio::test(start_paused = true)]
async fn states_are_told_from_each_other() {
    let lab = Lab::new();
    let (app, _) = numbered(&lab.layer());
    send(&app, post("k")).await;
    let shown = Operator::new(lab.store.clone()).find("", "k").await.unwrap();
    assert_eq!((shown.state().name(), shown.record.status()), ("complete", Status::Complete));
    assert!(!shown.needs_attention() && shown.finding().is_none());
}

/// Such as the one that has the maintenance windows: all processes over a store share it.
#[tokio::test(start_paused = true)]
async fn a_record_that_is_no_operation_is_not_shown() {
    let lab = Lab::new();
    let (app, _) = numbered(&lab.layer());
    send(&app, post("k")).await;
    let shown = Operator::new(lab.store.clone()).find("", "k").await.unwrap();
    let mut bytes = [7; 32];
    bytes[..8].fill(0);
    let key = Key::from_bytes(bytes);
    assert!(matches!(lab.store.swap(&key, None, &shown.record).await, Ok(Swap::Stored)));
    let operator = Operator::new(lab.store.clone());
    assert_eq!(all(&operator, Listing::new(ListState::Complete)).await, [(shown.key, OperationState::Complete)]);
    assert_eq!(operator.counts().await.unwrap().complete.map(|complete| complete.count), Some(1));
    let found = operator.find_by_hash(&key.to_string()).await;
    assert!(matches!(found, Err(OperatorError::Absent)), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn a_label_finds_its_operations() {
    let lab = Lab::new();
    let layer = lab.layer().labels(|parts| Labels::new().with("path", parts.uri.path()));
    let (app, _) = numbered(&layer);
    for (path, key) in [("/a", "one"), ("/b", "two"), ("/a", "three")] {
        send(&app, request("POST", path, key, "{}")).await;
    }
    let operator = Operator::new(lab.store.clone());
    let of = |path: &str| Listing::new(ListState::Complete).label(Label::new("path", path)).limit(1);
    assert_eq!(all(&operator, of("/b")).await, [(stored_key("two"), OperationState::Complete)]);
    assert_eq!(all(&operator, of("/a")).await.len(), 2);
    assert_eq!(all(&operator, of("/")).await, []);
    let shown = operator.find("", "two").await.unwrap();
    assert_eq!(shown.labels().get("path"), Some("/b"));
    assert_eq!(shown.to_json()["labels"], serde_json::json!({ "path": "/b" }));
}

/// Operations of two paths, 40 of one and one of the other.
async fn of_two_paths(lab: &Lab, engine: Engine) -> Operator {
    let layer = IdempotencyLayer::new(&engine, Scope::shared());
    let (app, _) = numbered(&layer.labels(|parts| Labels::new().with("path", parts.uri.path())));
    for n in 0..40 {
        send(&app, request("POST", "/many", &format!("k{n}"), "{}")).await;
    }
    send(&app, request("POST", "/one", "one", "{}")).await;
    lab.store.index_labels();
    Operator::new(engine)
}

#[tokio::test(start_paused = true)]
async fn an_index_of_labels_spares_a_page_all_the_others() {
    let lab = Lab::new();
    let operator = of_two_paths(&lab, lab.engine()).await;
    let one = Listing::new(ListState::Complete).label(Label::new("path", "/one"));
    let page = operator.list(&one).await.unwrap();
    assert_eq!((page.operations.len(), page.looked_at, page.by_label_index), (1, 1, true));
    let many = Listing::new(ListState::Complete).label(Label::new("path", "/many")).limit(7);
    assert_eq!(all(&operator, many).await.len(), 40);
    let walked = operator.list(&one.label_index(false)).await.unwrap();
    assert_eq!((walked.operations.len(), walked.looked_at, walked.by_label_index), (1, 41, false));
    let all = operator.list(&Listing::new(ListState::Complete)).await.unwrap();
    assert!(!all.by_label_index, "no label was asked for");
}

#[cfg(feature = "encryption")]
#[tokio::test(start_paused = true)]
async fn what_is_encrypted_is_found_by_its_label_without_an_index() {
    use tower_idempotency::encryption::{EncryptionKey, Keyring};

    let lab = Lab::new();
    let ring = Keyring::new(EncryptionKey::new("first", &std::array::from_fn(|n| n as u8)).unwrap());
    let operator = of_two_paths(&lab, lab.engine().encryption(ring)).await;
    let one = Listing::new(ListState::Complete).label(Label::new("path", "/one"));
    let page = operator.list(&one).await.unwrap();
    assert_eq!((page.operations.len(), page.looked_at, page.by_label_index), (1, 41, false));
}
