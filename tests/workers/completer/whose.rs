//! Whose operation it is, and its labels: stored, and given back.

use serde::{Deserialize, Serialize};
use tower_idempotency::core::Record;
use tower_idempotency::store::KeptRecord;
use tower_idempotency::{Completer, IdempotencyLayer, Labels, Mode, Runner, Scope};

use super::{BACKOFF, crashed, layer, once, parked_why, stored};
use crate::support::Count;
use crate::support::bodies::TestBody;
use crate::support::lab::{App, Lab, completer, operation, post, reply, secs, send, serve, stored_key};
use crate::support::secrets::ring;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: String,
}

fn of(user: &str) -> http::Request<TestBody> {
    let mut request = post("k");
    request.extensions_mut().insert(User { id: user.into() });
    request
}

/// A handler that fails at its first run, and says whose request it gets.
fn shop(layer: &IdempotencyLayer) -> (App, Count) {
    let runs = Count::default();
    let counted = runs.clone();
    let app = serve(layer, move |request| {
        let user = request.extensions().get::<User>().map_or("no user", |user| &user.id).to_owned();
        let status = if counted.up() == 1 { 503 } else { 200 };
        async move { Ok(reply(status, user)) }
    });
    (app, runs)
}

/// A lab in which an operation of Ann's waits for the completer.
async fn waiting(tell: impl FnOnce(IdempotencyLayer) -> IdempotencyLayer) -> (Lab, App, Completer) {
    let (lab, clock) = Lab::manual();
    let layer = tell(layer(&lab));
    let (app, _) = shop(&layer);
    send(&app, of("ann")).await.assert_first(503, "ann");
    clock.advance(secs(10));
    let completer = completer(&layer, &app);
    (lab, app, completer)
}

#[tokio::test(start_paused = true)]
async fn a_completer_gives_the_handler_its_caller_back() {
    for (kept, expected) in [(true, "ann"), (false, "no user")] {
        let (lab, app, completer) = waiting(|layer| if kept { layer.principal::<User>() } else { layer }).await;
        let json = kept.then_some(&br#"{"id":"ann"}"#[..]);
        let record = stored(&lab).await;
        assert_eq!(record.principal(), json);
        assert!(!format!("{record:?}").contains("ann"), "a log would show who it is");
        assert_eq!(once(&completer).await.completed, 1);
        send(&app, of("ann")).await.assert_replay(200, expected);
        // It goes with its request.
        assert_eq!(stored(&lab).await.principal(), None);
    }
}

/// What the guide says of rights that were revoked: `prepare` sees who it was.
#[tokio::test(start_paused = true)]
async fn a_hook_checks_the_rights_of_the_principal_again() {
    let (lab, _, completer) = waiting(IdempotencyLayer::principal::<User>).await;
    let completer = completer.prepare(|parts| async move {
        match parts.extensions.get::<User>() {
            Some(user) if user.id == "ann" => Err("ann may not pay any more".to_owned()),
            _ => Ok(parts),
        }
    });
    assert_eq!(once(&completer).await.parked, 1);
    assert_eq!(parked_why(&stored(&lab).await), "ann may not pay any more");
}

#[tokio::test(start_paused = true)]
async fn a_principal_that_does_not_read_parks_the_operation() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Account {
        number: u64,
    }
    let (lab, clock) = Lab::manual();
    let before = layer(&lab).principal::<User>();
    let (app, runs) = shop(&before);
    send(&app, of("ann")).await.assert_first(503, "ann");
    clock.advance(secs(10));
    let next = layer(&lab).principal::<Account>();
    let completer = completer(&next, &serve(&next, |_| async { Ok(reply(200, "ran")) }));
    assert_eq!(once(&completer).await.parked, 1);
    let why = parked_why(&stored(&lab).await);
    assert!(why.contains("Account") && !why.contains("ann"), "{why}");
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_build_stored_has_no_principal_and_is_driven() {
    let (lab, clock) = Lab::manual();
    crashed(&lab, "k", Mode::Resumable, b"{}").await;
    clock.advance(secs(60));
    let layer = layer(&lab).principal::<User>();
    let app = serve(&layer, |request| {
        let is_known = request.extensions().get::<User>().is_some();
        async move { Ok(reply(200, format!("{is_known}"))) }
    });
    assert_eq!(once(&completer(&layer, &app)).await.completed, 1);
    assert_eq!(stored(&lab).await.response().unwrap().body().unwrap(), "false");
}

#[tokio::test(start_paused = true)]
async fn a_principal_that_cant_be_stored_refuses_the_request() {
    /// JSON has no keys that are lists.
    #[derive(Clone, Serialize, Deserialize)]
    struct Strange(std::collections::BTreeMap<Vec<u8>, u8>);
    #[derive(Clone, Deserialize)]
    struct Panics;
    impl Serialize for Panics {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("on purpose")
        }
    }
    let lab = Lab::new();
    let refused = async |layer: IdempotencyLayer, tell: &dyn Fn(&mut http::Extensions)| {
        let (app, runs) = shop(&layer);
        let mut request = post("k");
        tell(request.extensions_mut());
        send(&app, request).await.assert_problem("principal-not-stored", 500);
        assert_eq!((runs.get(), lab.store.peek(&stored_key("k")).await), (0, None));
    };
    // `{"id":"…"}` has nine bytes besides.
    let user = |bytes: usize| User { id: "x".repeat(bytes - 9) };
    refused(layer(&lab).principal::<User>(), &|all| drop(all.insert(user(1025)))).await;
    let strange = Strange([(vec![1], 1)].into());
    refused(layer(&lab).principal::<Strange>(), &|all| drop(all.insert(strange.clone()))).await;
    refused(layer(&lab).principal::<Panics>(), &|all| {
        all.insert(Panics);
    })
    .await;
    // In at-most-once mode the layer stores no request, and no principal.
    let (app, _) = shop(&lab.layer().principal::<Panics>());
    let mut request = post("other");
    request.extensions_mut().insert(Panics);
    send(&app, request).await.assert_first(503, "no user");
    // As large as it may be.
    let (app, _) = shop(&layer(&lab).principal::<User>());
    assert_eq!(send(&app, of(&user(1024).id)).await.status, 503);
    assert_eq!(stored(&lab).await.principal().unwrap().len(), 1024);
}

fn texts(record: &Record) -> Vec<&str> {
    record.labels().iter().map(|label| label.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn labels_come_with_the_claim_and_with_the_next_write() {
    let (lab, clock) = Lab::manual();
    let layer = layer(&lab).labels(|parts| Labels::new().with("route", parts.uri.path()));
    let store = lab.store.clone();
    let app = serve(&layer, move |request| {
        let (op, store) = (operation(&request), store.clone());
        async move {
            let peek = async || store.peek(&stored_key("k")).await.unwrap();
            let before = peek().await;
            op.label("order", "1\n7");
            op.label("order", 17);
            assert_eq!((peek().await.labels(), peek().await.version()), (before.labels(), before.version()));
            op.step("find", |_| async { Ok::<_, String>(1) }).await.unwrap();
            assert_eq!(texts(&peek().await)[..2], ["route=/pay", "order=17"]);
            (0..9).for_each(|n| op.label(&format!("n{n}"), n));
            Ok(reply(if op.is_resumed() { 200 } else { 503 }, "done"))
        }
    });
    send(&app, post("k")).await.assert_first(503, "done");
    let all = ["route=/pay", "order=17", "n0=0", "n1=1", "n2=2", "n3=3", "n4=4", "n5=5"];
    assert_eq!(texts(&stored(&lab).await), all);
    clock.advance(secs(10));
    assert_eq!(once(&completer(&layer, &app)).await.failed, 0);
    assert_eq!(texts(&stored(&lab).await), all);
}

#[tokio::test(start_paused = true)]
async fn an_operation_does_not_fail_for_its_labels() {
    let lab = Lab::new();
    let layer = lab.layer().labels(|_| panic!("on purpose"));
    let app = serve(&layer, |_| async { Ok(reply(200, "paid")) });
    send(&app, post("k")).await.assert_first(200, "paid");
    assert!(stored(&lab).await.labels().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_runner_labels_what_it_runs() {
    let lab = Lab::new();
    let seen = lab.store.clone();
    let runner = Runner::new(lab.store.clone()).labels(Labels::new().with("job", "export"));
    let run = runner.run("jobs", "k", "", move |op| async move {
        op.label("day", 17);
        op.step("query", |_| async { Ok::<_, String>(1) }).await.unwrap();
        let record = seen.peek(op.key()).await.unwrap();
        Ok::<_, String>(texts(&record).join(" "))
    });
    assert_eq!(run.await.unwrap(), "job=export day=17");
}

/// Neither is to be read in a store that is encrypted, and both are given back.
#[tokio::test(start_paused = true)]
async fn both_are_encrypted() {
    let (lab, clock) = Lab::manual();
    let engine = lab.engine().backoff(BACKOFF).encryption(ring());
    let layer = IdempotencyLayer::new(engine, Scope::shared()).resumable();
    let layer = layer.principal::<User>().labels(|_| Labels::new().with("order", "secret-17"));
    let (app, _) = shop(&layer);
    send(&app, of("secret-ann")).await.assert_first(503, "secret-ann");
    let record = stored(&lab).await;
    assert!(record.labels().is_empty() && record.principal().is_none() && record.sealed_with() == Some("first"));
    let pieces = record.encode();
    let all = [&[pieces.head][..], &pieces.fresh.into_iter().map(|(_, part)| part).collect::<Vec<_>>()].concat();
    assert!(!all.iter().any(|piece| piece.windows(6).any(|bytes| bytes == b"secret")));
    clock.advance(secs(10));
    assert_eq!(once(&completer(&layer, &app)).await.completed, 1);
    send(&app, of("secret-ann")).await.assert_replay(200, "secret-ann");
}

/// Nothing that an operation without them would pay for.
#[tokio::test(start_paused = true)]
async fn an_operation_without_them_stores_no_byte_more() {
    let mut lengths = Vec::new();
    for noted in [false, true] {
        // The same pause before the next try: a short one takes fewer bytes.
        fastrand::seed(17);
        let lab = Lab::new();
        let (plain, empty) = (layer(&lab), |_: &_| Labels::new());
        let layer = if noted { plain.principal::<User>().labels(empty) } else { plain };
        let (app, _) = shop(&layer);
        send(&app, post("k")).await.assert_first(503, "no user");
        let pieces = stored(&lab).await.encode();
        lengths.push((pieces.head.len(), pieces.fresh.iter().map(|(_, part)| part.len()).sum::<usize>()));
    }
    assert_eq!(lengths[0], lengths[1]);
}
