//! What is stored is encrypted, and opened with its key alone.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use tower_idempotency::core::{Key, PartId, Record, Resolution, Times, Version};
use tower_idempotency::encryption::{EncryptionKey, KeyError, Keyring};
use tower_idempotency::store::{KeptRecord, Loaded, MemoryStore, Page, Query, Store, StoreError, StoreErrorKind, Swap};
use tower_idempotency::{
    Callback, Engine, EventKind, FindingKind, IdempotencyLayer, Operator, OperatorError, Scope, Watcher,
};

use crate::support::Count;
use crate::support::lab::{
    App, Lab, completer, numbered, operation, post, post_body, reply, secs, send, serve, stored_key,
};
use crate::support::secrets::{SECRETS, fill, found_in, is_in, keys, ring, secret};
use crate::support::store::Faulty;

/// A memory store, and all that it was ever given.
#[derive(Clone, Debug, Default)]
struct Recorder {
    inner: Arc<MemoryStore>,
    given: Arc<Mutex<Vec<Record>>>,
    keeps_parts: bool,
}

impl Recorder {
    /// All of it, as bytes and by what it shows.
    fn dump(&self) -> Vec<u8> {
        let mut dump = Vec::new();
        for record in &*self.given.lock().unwrap() {
            let pieces = record.encode();
            dump.extend_from_slice(&pieces.head);
            pieces.fresh.iter().for_each(|(_, bytes)| dump.extend_from_slice(bytes));
            dump.extend_from_slice(format!("{record:?} {:?}", record.history()).as_bytes());
            if let Some(request) = record.request() {
                dump.extend_from_slice(format!("{} {:?}", request.uri(), request.headers()).as_bytes());
                dump.extend_from_slice(request.body());
            }
            if let Some(response) = record.response() {
                dump.extend_from_slice(format!("{:?}", response.headers()).as_bytes());
                dump.extend_from_slice(response.body().unwrap_or(&Bytes::new()));
            }
            record.steps().iter().for_each(|step| dump.extend_from_slice(step.name().as_bytes()));
        }
        dump
    }
}

#[async_trait]
impl Store for Recorder {
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        self.inner.load(key).await
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        self.given.lock().unwrap().push(next.clone());
        self.inner.swap(key, expected, next).await
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        self.inner.remove(key, expected).await
    }

    async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        self.inner.scan(query).await
    }

    fn keeps_parts(&self) -> bool {
        self.keeps_parts
    }
}

#[tokio::test]
async fn a_store_is_given_nothing_of_what_was_said() {
    let clear = Recorder::default();
    fill(&Engine::new(clear.clone())).await;
    assert_eq!(found_in(&clear.dump()), SECRETS, "this test would see it");
    let fingerprint = *clear.given.lock().unwrap()[0].fingerprint().as_bytes();
    assert!(is_in(&clear.dump(), &fingerprint));
    for keeps_parts in [false, true] {
        let store = Recorder { keeps_parts, ..Recorder::default() };
        fill(&Engine::new(store.clone()).encryption(ring())).await;
        assert_eq!(found_in(&store.dump()), Vec::<&str>::new());
        assert!(!is_in(&store.dump(), &fingerprint), "a small body could be guessed");
        assert!(store.given.lock().unwrap().iter().all(|record| record.sealed_with() == Some("first")));
    }
}

/// All ciphertexts that a store was given, by their nonces.
fn nonces(store: &Recorder) -> (usize, usize) {
    let mut nonces = Vec::new();
    for record in &*store.given.lock().unwrap() {
        let pieces = record.encode();
        // Of a head it is somewhere inside: behind the name of the key.
        let starts = pieces.head.windows(5).position(|window| window == b"first").unwrap() + 5;
        nonces.push(pieces.head.slice(starts..starts + 24));
        nonces.extend(pieces.fresh.iter().map(|(_, piece)| piece.slice(8..32)));
    }
    (nonces.len(), nonces.into_iter().collect::<HashSet<_>>().len())
}

#[tokio::test]
async fn no_nonce_is_used_twice() {
    let store = Recorder { keeps_parts: true, ..Recorder::default() };
    for _ in 0..100 {
        let store = Recorder { inner: Arc::default(), ..store.clone() };
        fill(&Engine::new(store).encryption(ring())).await;
    }
    let (all, different) = nonces(&store);
    assert!(all > 3000 && all == different, "{different} of {all}");
}

/// A ring of this name, and the events of a process that has it.
fn process(store: &Faulty, ring: Option<Keyring>) -> (Lab, Engine) {
    let lab = Lab::over(store.clone());
    let engine = lab.engine();
    let engine = match ring {
        Some(ring) => engine.encryption(ring),
        None => engine,
    };
    (lab, engine)
}

fn service(engine: &Engine) -> (IdempotencyLayer, App, Count) {
    let layer = IdempotencyLayer::new(engine, Scope::shared()).resumable();
    let (app, runs) = numbered(&layer);
    (layer, app, runs)
}

fn other_secret_of_that_name() -> Keyring {
    Keyring::new(EncryptionKey::new("first", &std::array::from_fn(|n| n as u8)).unwrap())
}

#[tokio::test]
async fn without_its_key_nothing_runs_and_the_key_is_named() {
    let store = Faulty::new();
    let (_, engine) = process(&store, Some(ring()));
    let (_, app, runs) = service(&engine);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    for other in [None, Some(Keyring::new(secret("second"))), Some(other_secret_of_that_name())] {
        let (lab, engine) = process(&store, other);
        let (_, app, other_runs) = service(&engine);
        for body in [r#"{"amount":100}"#, "other"] {
            send(&app, post_body("k", body)).await.assert_problem("store-unavailable", 503);
        }
        assert_eq!(other_runs.get(), 0);
        let events = lab.events.all();
        let told = events.iter().filter_map(|event| match &event.kind {
            EventKind::StoreFailed { error, .. } => Some((error.kind(), error.to_string())),
            _ => None,
        });
        let told: Vec<_> = told.collect();
        assert!(told.iter().all(|(kind, text)| *kind == StoreErrorKind::Undecryptable && text.contains("\"first\"")));
        assert!(told.len() >= 2, "{told:?}");
    }
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_completer_and_a_watcher_without_the_key_leave_it_and_say_so() {
    let store = Faulty::new();
    let (_, engine) = process(&store, Some(ring()));
    let failing = serve(&IdempotencyLayer::new(&engine, Scope::shared()).resumable(), |_| async { Ok(reply(503, "")) });
    send(&failing, post("k")).await;
    tokio::time::sleep(secs(60)).await;
    let before = store.peek(&stored_key("k")).await.unwrap();
    let (lab, engine) = process(&store, None);
    let (layer, app, runs) = service(&engine);
    let report = completer(&layer, &app).run_once().await.unwrap();
    assert_eq!((report.unreadable, report.completed, runs.get()), (1, 0, 0));
    assert_eq!(lab.events.count("Unreadable"), 1);
    Watcher::new(&engine).pending_for(secs(1)).run_once().await;
    let found = lab.events.all().into_iter().find_map(|event| match event.kind {
        EventKind::Found { finding } => Some(*finding),
        _ => None,
    });
    let found = found.unwrap();
    assert_eq!(found.kind, FindingKind::Unreadable);
    assert!(found.cause.contains("\"first\""), "{}", found.cause);
    assert_eq!(store.peek(&stored_key("k")).await.unwrap(), before, "it stays as it is");
    // A process that has the key goes on with it.
    let (_, engine) = process(&store, Some(ring()));
    let (layer, app, runs) = service(&engine);
    let report = completer(&layer, &app).run_once().await.unwrap();
    assert_eq!((report.completed, runs.get()), (1, 1));
}

#[tokio::test]
async fn an_operator_without_the_key_sees_where_it_stands_and_can_erase_it() {
    let store = Faulty::new();
    fill(&Engine::new(store.clone()).encryption(ring())).await;
    let operator = Operator::new(store.clone());
    let shown = operator.find("", "parked").await.unwrap();
    assert_eq!((shown.record.sealed_with(), shown.parked(), shown.in_doubt().count()), (Some("first"), Some(""), 0));
    let history = shown.record.history();
    assert!(history.len() > 1 && history.iter().all(|moment| moment.text.as_deref().is_none_or(str::is_empty)));
    let refused = operator.retry(&shown).await.unwrap_err();
    assert!(matches!(&refused, OperatorError::Store(error) if error.kind() == StoreErrorKind::Undecryptable));
    let done = operator.find("", "done").await.unwrap();
    operator.forget(&done).await.unwrap();
    assert!(store.peek(&stored_key("done")).await.is_none());
    // With it, all is shown.
    let operator = Operator::new(Engine::new(store).encryption(ring()));
    let shown = operator.find("", "parked").await.unwrap();
    assert_eq!((shown.record.sealed_with(), shown.parked()), (None, Some("secret-of-an-operator")));
    assert_eq!(shown.record.steps()[0].name(), "secret-of-a-step-name");
    operator.retry(&shown).await.unwrap();
}

#[tokio::test]
async fn what_is_in_clear_is_read_and_encrypted_with_the_next_write() {
    let store = Faulty::new();
    let (_, clear) = process(&store, None);
    let (_, app, _) = service(&clear);
    send(&app, post("old")).await.assert_first(201, "charge 1");
    let unfinished = serve(&IdempotencyLayer::new(&clear, Scope::shared()).resumable(), |request| async move {
        operation(&request).step("one", |_| async { Ok::<_, String>(17) }).await.unwrap();
        Ok(reply(503, "later"))
    });
    send(&unfinished, post("half")).await;
    let (_, engine) = process(&store, Some(ring()));
    let layer = IdempotencyLayer::new(&engine, Scope::shared()).resumable();
    let app = serve(&layer, |request| async move {
        let step = operation(&request).step("one", |_| async { Ok::<_, String>(0) });
        Ok(reply(201, format!("step {}", step.await.unwrap())))
    });
    send(&app, post("old")).await.assert_replay(201, "charge 1");
    send(&app, post_body("old", "other")).await.assert_problem("key-reused", 422);
    send(&app, post("half")).await.assert_first(201, "step 17");
    assert_eq!(store.peek(&stored_key("old")).await.unwrap().sealed_with(), None);
    assert_eq!(store.peek(&stored_key("half")).await.unwrap().sealed_with(), Some("first"));
}

/// The first step of a rollout, and the way back.
#[tokio::test]
async fn a_ring_that_only_reads_writes_in_clear() {
    let store = Faulty::new();
    let (_, engine) = process(&store, Some(ring()));
    let (_, app, _) = service(&engine);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    let (_, engine) = process(&store, Some(ring().read_only()));
    let (_, app, _) = service(&engine);
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    send(&app, post("other")).await;
    assert_eq!(store.peek(&stored_key("other")).await.unwrap().sealed_with(), None);
}

#[tokio::test]
async fn a_rotation_replays_what_was_written_before_and_compares_it() {
    let store = Faulty::new();
    let (_, engine) = process(&store, Some(ring()));
    let (_, app, _) = service(&engine);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    let rotated = || Keyring::new(secret("second")).with_older(secret("first")).unwrap();
    let (_, engine) = process(&store, Some(rotated()));
    let (_, app, runs) = service(&engine);
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    send(&app, post_body("k", "other")).await.assert_problem("key-reused", 422);
    send(&app, post("new")).await.assert_first(201, "charge 1");
    assert_eq!(store.peek(&stored_key("new")).await.unwrap().sealed_with(), Some("second"));
    assert_eq!(runs.get(), 1);
    // Readers first: a process that has it as an older one reads what the others write.
    let (_, engine) = process(&store, Some(ring().with_older(secret("second")).unwrap()));
    let (_, app, _) = service(&engine);
    send(&app, post("new")).await.assert_replay(201, "charge 1");
    // Taken away too early.
    let (_, engine) = process(&store, Some(Keyring::new(secret("second"))));
    let (_, app, runs) = service(&engine);
    send(&app, post("k")).await.assert_problem("store-unavailable", 503);
    assert_eq!(runs.get(), 0);
}

/// The pieces of a record as a store has them, built anew with one of them changed.
fn rebuilt(record: &Record, change: impl Fn(Option<PartId>, &[u8]) -> Bytes) -> Record {
    let pieces = record.encode();
    let times = Times { created: record.created_at().unwrap(), written: record.written_at() };
    Record::decode(times, &change(None, &pieces.head), |id| {
        let (_, piece) = pieces.fresh.iter().find(|(other, _)| *other == id)?;
        Some(change(Some(id), piece))
    })
    .unwrap()
}

#[tokio::test]
async fn a_piece_that_was_changed_or_is_anothers_does_not_open() {
    let store = MemoryStore::new();
    let engine = Engine::new(Arc::new(store)).encryption(ring());
    let (_, app, _) = service(&engine);
    for key in ["a", "b"] {
        send(&app, post(key)).await;
    }
    let record = |key: &'static str| {
        let engine = engine.clone();
        async move { engine.store().load(&stored_key(key)).await.unwrap().record.unwrap() }
    };
    let (a, b) = (record("a").await, record("b").await);
    let last = |piece: &[u8]| {
        let mut piece = piece.to_vec();
        *piece.last_mut().unwrap() ^= 1;
        Bytes::from(piece)
    };
    let response_of_b = b.encode().fresh[0].1.clone();
    let changed = rebuilt(&a, |id, piece| if id.is_some() { last(piece) } else { Bytes::copy_from_slice(piece) });
    let swapped = rebuilt(&a, |id, piece| match id {
        Some(PartId::Response) => response_of_b.clone(),
        _ => Bytes::copy_from_slice(piece),
    });
    for (what, record) in [("changed", changed), ("swapped", swapped), ("another", b), ("its own", a)] {
        let store = Arc::new(MemoryStore::new());
        store.swap(&stored_key("a"), None, &record).await.unwrap();
        let (_, app, runs) = service(&Engine::new(store).encryption(ring()));
        let answer = send(&app, post("a")).await;
        assert_eq!(runs.get(), 0, "{what}");
        match what {
            "its own" => answer.assert_replay(201, "charge 1"),
            _ => answer.assert_problem("store-unavailable", 503),
        }
    }
}

/// What is large is not encrypted again with each write.
#[tokio::test]
async fn a_store_that_keeps_parts_gets_ciphertexts_of_new_ones_alone() {
    const BODY: usize = 100_000;
    for keeps_parts in [false, true] {
        let store = Recorder { keeps_parts, ..Recorder::default() };
        let engine = Engine::new(store.clone()).encryption(ring());
        let app = serve(&IdempotencyLayer::new(&engine, Scope::shared()).resumable(), |request| async move {
            operation(&request).step("one", |_| async { Ok::<_, String>(17) }).await.unwrap();
            Ok(reply(503, "later"))
        });
        send(&app, post_body("k", vec![b'x'; BODY])).await;
        let sizes: Vec<_> = store.given.lock().unwrap().iter().map(|record| record.size() > BODY).collect();
        assert_eq!(sizes, [true, !keeps_parts, !keeps_parts]);
    }
}

/// What docs say of the room that it takes.
#[tokio::test]
async fn a_part_takes_43_bytes_more_and_the_name_of_its_key() {
    let responses = [None, Some(ring())].map(|ring| async {
        let (store, lab) = (Faulty::new(), ring);
        let (_, engine) = process(&store, lab);
        let (_, app, _) = service(&engine);
        send(&app, post("k")).await;
        let pieces = store.peek(&stored_key("k")).await.unwrap().encode();
        (pieces.head.len(), pieces.fresh[0].1.len())
    });
    let [clear, sealed] = responses;
    let (clear, sealed) = (clear.await, sealed.await);
    assert_eq!(sealed.1, clear.1 + 43 + "first".len());
    assert!(sealed.0 <= 2 * clear.0 + 50 + "first".len(), "{clear:?} {sealed:?}");
}

#[tokio::test(start_paused = true)]
async fn callbacks_get_it_in_clear() {
    let (lab, told) = (Lab::new(), Arc::new(Mutex::new(Vec::new())));
    let hook = Arc::clone(&told);
    let callback = Callback::new(move |ended| {
        let body = ended.response().and_then(|answer| answer.body().cloned());
        hook.lock().unwrap().push(body);
        async { Ok::<_, String>(()) }
    });
    let layer = lab.layer_with(|engine| engine.encryption(ring())).resumable().callback(callback);
    let (app, _) = numbered(&layer);
    send(&app, post("k")).await;
    completer(&layer, &app).run_once().await.unwrap();
    assert_eq!(*told.lock().unwrap(), [Some(Bytes::from_static(b"charge 1"))]);
    send(&app, post("k")).await.assert_replay(201, "charge 1");
}

#[tokio::test]
async fn a_decision_is_carried_out_on_what_is_encrypted() {
    let store = Faulty::new();
    let engine = Engine::new(store.clone()).encryption(ring());
    fill(&engine).await;
    let operator = Operator::new(&engine);
    let shown = operator.find("", "unfinished").await.unwrap();
    operator.resolve(&shown, Resolution::Park { why: "to be looked at".into() }).await.unwrap();
    assert_eq!(operator.find("", "unfinished").await.unwrap().parked(), Some("to be looked at"));
    for key in keys() {
        assert_eq!(store.peek(&key).await.unwrap().sealed_with(), Some("first"));
    }
}

#[test]
fn keys_that_are_none_are_refused_and_none_is_shown() {
    let good: [u8; 32] = std::array::from_fn(|n| n as u8 + 100);
    let long = "x".repeat(65);
    for name in ["", " ", "a b", "ß", "a\n", long.as_str()] {
        assert_eq!(EncryptionKey::new(name, &good).unwrap_err(), KeyError::Name, "{name:?}");
    }
    for weak in [0, 255] {
        assert_eq!(EncryptionKey::new("k", &[weak; 32]).unwrap_err(), KeyError::Weak);
    }
    let key = EncryptionKey::new("k", &good).unwrap();
    assert_eq!(Keyring::new(key.clone()).with_older(key.clone()).unwrap_err(), KeyError::Twice);
    for shown in [
        format!("{key:?}"),
        format!("{:#?}", Keyring::new(key.clone())),
        format!("{:?}", Engine::new(MemoryStore::new()).encryption(Keyring::new(key))),
    ] {
        for digits in ["100, 101", "100,\n", "6465", "646566"] {
            assert!(!shown.contains(digits), "{shown}");
        }
    }
    for error in [KeyError::Name, KeyError::Weak, KeyError::Twice] {
        assert!(error.to_string().contains("; "), "it names the fix: {error}");
    }
}
