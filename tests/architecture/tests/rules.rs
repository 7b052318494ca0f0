//! The invariants of ARCHITECTURE that say which file may name or call what.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::path::Path;
use std::sync::LazyLock;

use architecture::{Library, Target, read};

static LIBRARY: LazyLock<Library> =
    LazyLock::new(|| Library::of(&read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src"))));

/// A library of one file.
fn planted(file: &str, text: &str) -> Library {
    let mut sources = architecture::Sources::from([("lib.rs".to_owned(), String::new())]);
    let module = file.trim_end_matches(".rs");
    for (at, _) in module.match_indices('/').chain([(module.len(), "")]) {
        let (above, name) = module[..at]
            .rsplit_once('/')
            .map_or(("lib.rs".to_owned(), &module[..at]), |(above, name)| (format!("{above}/mod.rs"), name));
        sources.insert(above, format!("mod {name};"));
    }
    sources.insert(file.to_owned(), text.to_owned());
    Library::of(&sources)
}

/// The paths of these files that lead out of the library, and the file of each.
fn outside(library: &Library) -> impl Iterator<Item = (&str, Vec<String>)> {
    let of = |target| match target {
        Target::Outside(path) => Some(path),
        Target::Inside(_) => None,
    };
    library
        .uses
        .iter()
        .flat_map(move |named| library.targets(named).into_iter().filter_map(of).map(move |path| (&*named.file, path)))
}

/// What writes to a store, by the names of its methods and the number of their arguments.
fn writes(library: &Library) -> Vec<String> {
    let may =
        |file: &str| file.starts_with("engine/ledger/") || file.starts_with("store/") || file.starts_with("testing/");
    let is_write = |name: &str, arguments: usize| matches!((name, arguments), ("swap", 3) | ("remove", 2));
    let called = library.calls.iter().filter(|call| !may(&call.file) && is_write(&call.name, call.arguments));
    let called = called.map(|call| format!("{} calls {} with {}", call.file, call.name, call.arguments));
    // As a function of its trait or its type, called or handed on. Another crate's has its name.
    let is_theirs = |file: &str, path: &[String]| {
        let is_write = path.last().is_some_and(|name| name == "swap" || name == "remove");
        !may(file) && path.len() > 1 && is_write && path[0] != "std"
    };
    let named = library.uses.iter().filter(|named| is_theirs(&named.file, &named.path));
    called.chain(named.map(|named| format!("{} names {}", named.file, named.path.join("::")))).collect()
}

#[test]
fn only_the_ledger_writes_to_a_store() {
    let found = writes(&LIBRARY);
    assert!(found.is_empty(), "{found:#?}");
    assert!(LIBRARY.calls.iter().filter(|call| call.file == "engine/ledger/mod.rs" && call.name == "swap").count() > 0);
    for text in [
        "fn f() { e.store().swap(k, None, r); }",
        "fn f() { e.store.remove(&key, version); }",
        "fn f() { tokio::select! { x = store.swap(&k, None, &r) => {} } }",
        "use crate::store::Store; fn f() { Store::swap(&s, k, None, r); }",
        "use crate::store::Store; fn f() { g(Store::remove); }",
        "fn f() { <S as crate::store::Store>::swap(&s, k, None, r); }",
    ] {
        assert!(!writes(&planted("operator/a.rs", text)).is_empty(), "unseen: {text}");
    }
    let others = "fn f() { std::mem::swap(a, b); map.remove(key); flag.swap(true, Relaxed); }";
    assert!(writes(&planted("operator/a.rs", others)).is_empty());
}

/// Who may make responses: the layer's refusals are made in one file, and the pages for
/// operators in another.
const RESPONDS: [&str; 2] = ["http/problem.rs", "operator/inspector/page.rs"];

/// A response that a client or a service made is taken apart and put together: that is
/// `from_parts`. These make one of nothing.
fn responses(library: &Library) -> Vec<String> {
    let makes = |path: &[String]| {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        matches!(
            path[..],
            ["http", "Response", "new" | "builder" | "default"]
                | ["http", "response", "Response", "new" | "builder" | "default"]
                | ["http", "response", "Builder", ..]
        )
    };
    let found = outside(library).filter(|(file, path)| !RESPONDS.contains(file) && makes(path));
    found.map(|(file, path)| format!("{file} names {}", path.join("::"))).collect()
}

#[test]
fn only_one_file_makes_responses() {
    let found = responses(&LIBRARY);
    assert!(found.is_empty(), "{found:#?}");
    for text in [
        "fn f() { http::Response::new(()); }",
        "use http::Response; fn f() { Response::builder(); }",
        "use http::Response as Other; fn f() { Other::<()>::default(); }",
        "fn f() { http::response::Builder::new().status(409); }",
        "use http::response; fn f() { vec![response::Builder::new()]; }",
        "fn f() { <http::Response<()>>::new(()); }",
        "use http as h; fn f() { h::response::Response::new(()); }",
    ] {
        assert!(!responses(&planted("http/accept.rs", text)).is_empty(), "unseen: {text}");
    }
    assert!(responses(&planted("http/a.rs", "use http::Response; fn f() { Response::from_parts(a, b); }")).is_empty());
}

/// Files that know a crate by which things go out. `detached` only carries the caller's
/// span along: it says nothing.
fn telling(library: &Library) -> Vec<String> {
    const MAY: [(&str, &str); 4] = [
        ("metrics", "telemetry/metrics.rs"),
        ("tracing", "telemetry/emit.rs"),
        ("tracing", "telemetry/span.rs"),
        ("tracing", "util/detached.rs"),
    ];
    let found = outside(library).filter(|(file, path)| {
        ["metrics", "tracing"].contains(&&*path[0]) && !MAY.contains(&(&*path[0], *file))
            || *file == "util/detached.rs"
                && path[0] == "tracing"
                && !path.get(1).is_some_and(|name| name == "Span" || name == "Instrument")
    });
    found.map(|(file, path)| format!("{file} names {}", path.join("::"))).collect()
}

/// What is counted or timed, and is no event: how long an attempt took, and the rounds of a
/// watcher with their gauges; and where all of it begins.
const MEASURES: [&str; 4] = ["attempt", "begin", "rested", "watched"];

/// Who names the crate's own metrics, and what of them.
fn measuring(library: &Library) -> Vec<String> {
    let found = library.uses.iter().filter(|named| !named.file.starts_with("telemetry/")).flat_map(|named| {
        let is_one = |target: &Target| match target {
            Target::Inside(path) => {
                path.starts_with(&["telemetry".to_owned(), "metrics".to_owned()])
                    && !path.get(2).is_some_and(|name| MEASURES.contains(&&**name))
            }
            Target::Outside(_) => false,
        };
        library.targets(named).into_iter().filter(is_one).map(|_| format!("{} names {:?}", named.file, named.path))
    });
    found.collect()
}

#[test]
fn an_event_goes_out_in_one_place() {
    let found = [telling(&LIBRARY), measuring(&LIBRARY)].concat();
    assert!(found.is_empty(), "{found:#?}");
    for text in [
        "fn f() { metrics::counter!(\"x\").increment(1); }",
        "fn f() { tracing::info!(\"x\"); }",
        "use tracing as t; fn f() { t::info!(\"x\"); }",
        "use metrics::counter;",
        "macro_rules! m { () => { tracing::info!(\"x\") }; }",
    ] {
        assert!(!telling(&planted("http/a.rs", text)).is_empty(), "unseen: {text}");
    }
    assert!(!telling(&planted("util/detached.rs", "fn f() { tracing::info!(\"x\"); }")).is_empty());
    for text in ["fn f() { crate::telemetry::metrics::count(kind); }", "use crate::telemetry::metrics;"] {
        assert!(!measuring(&planted("http/a.rs", text)).is_empty(), "unseen: {text}");
    }
}

/// What the core may name of other crates: nothing that has a clock, chance, a lock or
/// a task.
const PURE: [&str; 14] = [
    "std::borrow",
    "std::cmp",
    "std::collections",
    "std::convert",
    "std::error",
    "std::fmt",
    "std::hash",
    "std::iter",
    "std::mem",
    "std::num",
    "std::str",
    "std::string",
    "std::sync::Arc",
    "std::time::Duration",
];

fn impure(library: &Library) -> Vec<String> {
    const CRATES: [&str; 12] = [
        "tokio",
        "tower",
        "tower_layer",
        "tower_service",
        "fastrand",
        "getrandom",
        "foldhash",
        "futures_util",
        "async_trait",
        "rustix",
        "metrics",
        "tracing",
    ];
    let is_impure = |path: &[String]| {
        let whole = path.join("::");
        let is_of = |pure: &&str| whole == **pure || whole.starts_with(&format!("{pure}::"));
        path[0] == "std" && !PURE.iter().any(is_of)
            || CRATES.contains(&&*path[0])
            || path.iter().any(|name| name == "RandomState" || name == "Instant" || name == "SystemTime")
    };
    let named = outside(library).filter(|(file, path)| file.starts_with("core/") && is_impure(path));
    let named = named.map(|(file, path)| format!("{file} names {}", path.join("::")));
    let waits =
        library.asynchronous.iter().filter(|file| file.starts_with("core/")).map(|file| format!("{file} waits"));
    named.chain(waits).collect()
}

#[test]
fn the_core_is_pure() {
    let found = impure(&LIBRARY);
    assert!(found.is_empty(), "{found:#?}");
    for text in [
        "use std::{fmt, time::{Duration, Instant}};",
        "use std::time; fn f() { time::SystemTime::now(); }",
        "use std::sync::{Arc, Mutex};",
        "fn f() { std::sync::atomic::fence(x); }",
        "use std::collections::hash_map::RandomState;",
        "fn f() { std::env::var(\"x\"); }",
        "use std::net::TcpStream;",
        "fn f() { let x = async { 1 }; }",
        "async fn f() {}",
        "macro_rules! m { () => { async move {} }; }",
        "use tokio::sync::Notify;",
        "use std as s; fn f() { s::thread::spawn(x); }",
    ] {
        assert!(!impure(&planted("core/a.rs", text)).is_empty(), "unseen: {text}");
    }
}

/// What a store may not look at: how a record moves is the core's. SQLite's rows have
/// whether a process of this machine holds the record, for what a dead one held.
fn deciding(library: &Library) -> Vec<String> {
    const STATES: [&str; 6] = ["Hold", "Progress", "Claim", "Fenced", "Resolve", "Change"];
    let may = |file: &str| {
        !file.starts_with("store/") || file.starts_with("store/conformance/") || file == "store/sqlite/row.rs"
    };
    let named = library.uses.iter().filter(|named| !may(&named.file)).flat_map(|named| {
        let is_one = |target: &Target| match target {
            Target::Inside(path) => {
                path.first().is_some_and(|wing| wing == "core")
                    && path.iter().any(|name| STATES.contains(&&**name) || name == "command")
            }
            Target::Outside(_) => false,
        };
        library.targets(named).into_iter().filter(is_one).map(|_| format!("{} names {:?}", named.file, named.path))
    });
    let asks = |name: &str| ["hold", "progress", "lease_left", "parked_for"].contains(&name);
    let called = library.calls.iter().filter(|call| !may(&call.file) && call.arguments == 0 && asks(&call.name));
    named.chain(called.map(|call| format!("{} calls {}", call.file, call.name))).collect()
}

#[test]
fn a_store_decides_nothing() {
    let found = deciding(&LIBRARY);
    assert!(found.is_empty(), "{found:#?}");
    for text in [
        "fn f() { matches!(r.hold(), x) }",
        "use crate::core::Hold;",
        "use super::super::core::{Record, command::Claim};",
        "use crate::core::*; fn f() { crate::core::Hold::Free; }",
        "fn f() { assert!(r.lease_left()); }",
    ] {
        assert!(!deciding(&planted("store/memory/mod.rs", text)).is_empty(), "unseen: {text}");
    }
}
