//! Records for tests, made the way the ledger makes them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use rusqlite::Connection;
use tower_idempotency::core::{
    Change, Claim, Command, Fence, Fenced, Fingerprint, IdempotencyKey, Key, Labels, Mode, Next, Reached, Record,
    Stamp, StoredRequest, StoredResponse, Timestamp, Version,
};
use tower_idempotency::store::{Store, Swap};

pub(crate) const LEASE: Duration = Duration::from_secs(60);
pub(crate) const RETENTION: Duration = Duration::from_secs(3600);

pub(crate) fn key(name: impl ToString) -> Key {
    Key::new("test", &IdempotencyKey::parse(name.to_string().as_bytes()).unwrap())
}

fn stamp() -> Stamp<'static> {
    static NONCE: AtomicU64 = AtomicU64::new(1);
    let nonce = Version::new(NONCE.fetch_add(1, Ordering::Relaxed) << 32 | u64::from(std::process::id()));
    Stamp::new(Timestamp::default(), nonce)
}

fn put(next: Next) -> Record {
    match next {
        Next::Put(record) => record,
        other => panic!("no record but {other:?}"),
    }
}

pub(crate) fn claim_with(body: Option<Bytes>) -> Record {
    let mut headers = HeaderMap::new();
    headers.insert("x-note", HeaderValue::from_bytes(b"caf\xe9").unwrap());
    let request =
        body.map(|body| Arc::new(StoredRequest::capture(&Method::POST, &Uri::from_static("/pay"), &headers, body)));
    let fingerprint = Fingerprint::of([b"POST /pay".as_slice()]);
    put(Claim { fingerprint, mode: Mode::Resumable, lease: LEASE, request, labels: Labels::new() }
        .apply(None, stamp())
        .next)
}

/// The same for an operation whose end is to be told.
pub(crate) fn claim_with_callback() -> Record {
    let fingerprint = Fingerprint::of([b"POST /pay".as_slice()]);
    let claim = Claim { fingerprint, mode: Mode::Resumable, lease: LEASE, request: None, labels: Labels::new() };
    put(claim.apply(None, Stamp { callback: true, ..stamp() }).next)
}

pub(crate) fn claim() -> Record {
    claim_with(None)
}

/// The record after `changes`; its fence is that of the claim.
pub(crate) fn change(record: &Record, fence: Version, changes: Vec<Change>) -> Record {
    put(Fenced { fence: Fence::of(fence), changes }.apply(Some(record), stamp()).next)
}

pub(crate) fn save(record: &Record, fence: Version, step: &str, value: &str) -> Record {
    let value = Bytes::copy_from_slice(value.as_bytes());
    change(record, fence, vec![Change::Save { step: step.into(), value }])
}

pub(crate) fn complete(record: &Record, fence: Version) -> Record {
    let body = Some(Bytes::from_static(b"{\"paid\":true}"));
    let response = Arc::new(StoredResponse::capture(StatusCode::CREATED, &HeaderMap::new(), body));
    change(record, fence, vec![Change::Complete { response, retention: RETENTION, reached: Reached::All }])
}

/// Swaps, and says which version is there now.
pub(crate) async fn store(store: &impl Store, key: &Key, expected: Option<Version>, next: &Record) -> Version {
    let swap = store.swap(key, expected, next).await.unwrap();
    assert!(matches!(swap, Swap::Stored), "{swap:?}");
    next.version()
}

pub(crate) async fn load(store: &impl Store, key: &Key) -> Option<Record> {
    store.load(key).await.unwrap().record
}

/// Everything a caller can see of two records that must be the same, but for
/// what the store adds.
#[track_caller]
pub(crate) fn assert_same(found: Option<Record>, expected: &Record) {
    let found = found.expect("there is no record");
    assert_eq!(found.version(), expected.version());
    assert_same_content(&found, expected);
}

#[track_caller]
pub(crate) fn assert_same_content(found: &Record, expected: &Record) {
    assert_eq!(found.progress(), expected.progress());
    assert_eq!(found.request(), expected.request());
    assert_eq!(found.fingerprint(), expected.fingerprint());
    let steps = |record: &Record| {
        let steps = record.steps().iter();
        steps.map(|step| (step.name().to_owned(), step.point().clone())).collect::<Vec<_>>()
    };
    assert_eq!(steps(found), steps(expected));
}

/// Claims and completes under this name; the record.
pub(crate) async fn answer(files: &impl Store, name: impl ToString) -> Record {
    let (key, first) = (key(name), claim());
    let fence = store(files, &key, None, &first).await;
    let done = complete(&first, fence);
    store(files, &key, Some(fence), &done).await;
    done
}

/// All files of a directory, with what is in them.
pub(crate) fn contents(directory: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    files.map(|file| (file.file_name(), fs::read(file.path()).unwrap_or_default())).collect()
}

/// Copies the files of a store as they are at this moment.
/// While it lives, no check-point moves what is written from now on out of the WAL,
/// however slow the machine is.
pub(crate) fn keep_in_wal(database: &Path) -> Connection {
    let reader = Connection::open(database).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema").unwrap();
    reader
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
