//! A wing knows only those below it, and no files of a wing know each other in a circle.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

use architecture::{Library, Sources, Target, read};

/// Each wing of the library, and those that it may know besides the crates it uses.
const WINGS: [(&str, &[&str]); 14] = [
    ("core", &[]),
    ("util", &["core"]),
    ("store", &["core", "util"]),
    ("client", &["core", "util"]),
    ("telemetry", &["core", "util", "store"]),
    ("engine", &["core", "util", "store", "telemetry"]),
    ("http", &["core", "util", "store", "telemetry", "engine"]),
    ("runner", &["core", "util", "store", "telemetry", "engine"]),
    ("schedule", &["core", "util", "store", "telemetry", "engine", "runner"]),
    ("workers", &["core", "util", "store", "telemetry", "engine", "http"]),
    ("operator", &["core", "util", "store", "telemetry", "engine", "http", "schedule", "workers"]),
    ("outbox", &["core", "util", "store", "client", "telemetry", "engine", "workers", "operator"]),
    ("testing", &["core", "util", "store", "telemetry", "engine", "http", "runner", "schedule", "workers", "operator"]),
    ("guide", &[]),
];

fn sources() -> Sources {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src"))
}

static LIBRARY: LazyLock<Library> = LazyLock::new(|| Library::of(&sources()));

fn wing(file: &str) -> &str {
    file.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// Where each file, but for the root, leads within the library.
fn named(library: &Library) -> BTreeSet<(&str, Vec<String>)> {
    let inside = library.uses.iter().filter(|named| named.file != "lib.rs");
    let targets = inside.flat_map(|named| {
        let targets = library.targets(named).into_iter();
        targets.filter_map(|target| match target {
            Target::Inside(path) => Some((&*named.file, path)),
            Target::Outside(_) => None,
        })
    });
    targets.collect()
}

/// What names a wing that it must not know. The root shows what users name: here a path
/// says in which wing it is.
fn arrows_up(library: &Library) -> BTreeSet<String> {
    let is_up = |(file, path): &(&str, Vec<String>)| {
        let Some((_, below)) = WINGS.iter().find(|(name, _)| *name == wing(file)) else { return true };
        !path.first().is_some_and(|what| what == wing(file) || below.contains(&&**what))
    };
    let told = |(file, path): (&str, Vec<String>)| {
        format!("{file} names crate::{}", path.first().map(String::as_str).unwrap_or_default())
    };
    named(library).into_iter().filter(is_up).map(told).collect()
}

/// The files of a wing that lead to each other in a circle, and what leads there.
fn circles(library: &Library) -> BTreeMap<&str, BTreeSet<&str>> {
    let modules: BTreeMap<&str, &str> =
        library.files.iter().map(|file| (file.trim_end_matches(".rs").trim_end_matches("/mod"), &**file)).collect();
    let file = |path: &[String]| (1..=path.len()).rev().find_map(|end| modules.get(&*path[..end].join("/")).copied());
    let mut left: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, path) in named(library) {
        let to = file(&path).filter(|to| *to != from && wing(from) == wing(to));
        left.entry(from).or_default().extend(to);
    }
    loop {
        // What names none of those that are left, or is named by none, is in no circle.
        let names: BTreeSet<_> = left.keys().copied().collect();
        left.values_mut().for_each(|known| known.retain(|name| names.contains(name)));
        let known: BTreeSet<_> = left.values().flatten().copied().collect();
        let before = left.len();
        left.retain(|name, below| !below.is_empty() && known.contains(name));
        if left.len() == before {
            return left;
        }
    }
}

/// A library of these files, each declared where its path says.
fn planted(files: &[(&str, &str)]) -> Library {
    let mut sources: Sources = files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
    let mut modules: BTreeSet<String> = BTreeSet::new();
    for (file, _) in files.iter().filter(|(file, _)| *file != "lib.rs") {
        let module = file.trim_end_matches(".rs").trim_end_matches("/mod");
        let ends = module.match_indices('/').map(|(at, _)| at).chain([module.len()]);
        modules.extend(ends.map(|end| module[..end].to_owned()));
    }
    for module in modules {
        let (parent, name) = match module.rsplit_once('/') {
            Some((above, name)) => (format!("{above}/mod.rs"), name),
            None => ("lib.rs".to_owned(), &*module),
        };
        sources.entry(parent).or_default().push_str(&format!("\nmod {name};"));
    }
    let library = Library::of(&sources);
    assert!(library.refused.is_empty(), "{:#?}", library.refused);
    library
}

#[test]
fn every_file_can_be_read() {
    let library = &*LIBRARY;
    assert!(library.refused.is_empty(), "{:#?}", library.refused);
    assert!(library.files.len() > 100 && named(library).len() > 1000, "the sources are somewhere else");
}

#[test]
fn a_wing_knows_only_those_below_it() {
    let found = arrows_up(&LIBRARY);
    assert!(found.is_empty(), "{found:#?}");
    for (file, text) in sources().iter().filter(|(file, _)| file.matches('/').count() == 1 && file.ends_with("/mod.rs"))
    {
        assert!(text.starts_with("//!"), "{file} does not say what is in it");
    }
}

/// Each way to write a path up from `core/hash.rs`.
#[test]
fn an_arrow_up_is_seen_however_it_is_written() {
    for text in [
        "use crate::store::Store;",
        "use super::super::store::Store;",
        "use super::{super::store::{self as other}};",
        "fn f(x: super::super::store::Loaded) {}",
        "fn f() { let x = super::super::store::load(); }",
        "macro_rules! m { () => { $crate::store::load() }; }",
        "macro_rules! m { ($x:expr) => { use $crate::{store::load}; load($x) }; }",
        "fn f() { println!(\"{}\", super::super::store::load()); }",
        "use crate as root; fn f(x: root::store::Loaded) {}",
        "use super::super as up; use up::store as other; fn f(x: other::Loaded) {}",
        "use super::super::*; fn f(x: store::Loaded) {}",
        "#[cfg(test)]\nmod tests { fn t() {} }\nuse crate::store::Store;",
        "mod tests { use crate::store::Store; }",
        "mod inner { fn f(x: super::super::super::store::Loaded) {} }",
        "fn f() { use crate::store::Store; }",
        "impl crate::store::Store for u8 {}",
        "fn f(x: <u8 as crate::store::Store>::X) {}",
        "#[derive(Clone)] struct S { #[with(\"crate::store::encode\")] x: u8 }",
        "use crate::Engine;",
        "fn f(x: Vec<crate::store::Loaded>) {}",
    ] {
        let found = arrows_up(&planted(&[("core/hash.rs", text), ("store/mod.rs", "")]));
        assert!(!found.is_empty(), "unseen: {text}");
    }
    // A path without `use`, and a file that is no test for its name.
    assert!(!arrows_up(&planted(&[("core/mod.rs", "use super::store;"), ("store/mod.rs", "")])).is_empty());
    assert!(!arrows_up(&planted(&[("core/tests.rs", "use crate::store::Store;"), ("store/mod.rs", "")])).is_empty());
    // No arrows: what tests name, who may see an item, another crate's, a variable.
    for text in [
        "#[cfg(test)]\nmod tests { use crate::store::Store; }",
        "#[cfg(test)]\nfn f(x: crate::store::Loaded) {}",
        "pub(in crate::core) fn f() {}",
        "use ::store::Store;",
        "fn f(store: u8) -> u8 { store }",
        "/// `crate::store::Store`\nfn f() {}",
    ] {
        let found = arrows_up(&planted(&[("core/hash.rs", text), ("store/mod.rs", "")]));
        assert!(found.is_empty(), "{text}: {found:?}");
    }
}

/// What would hide a path is refused.
#[test]
fn what_hides_paths_is_refused() {
    for text in [
        "include!(\"../store/code.rs\");",
        "macro_rules! m { () => { include!(\"code.rs\"); }; }",
        "#[path = \"../store/mod.rs\"] mod other;",
        "#[macro_use] mod other {}",
        "extern crate self as me;",
        "macro_rules! m { ($($x:ident),*) => { use $crate::{$($x),*}; }; }",
    ] {
        let sources = [("lib.rs", "mod core;"), ("core/mod.rs", text), ("core/other.rs", "")];
        let refused = Library::of(&sources.map(|(file, text)| (file.to_owned(), text.to_owned())).into()).refused;
        assert!(refused.iter().any(|why| why.starts_with("core/mod.rs")), "{text}: {refused:?}");
    }
    let lost = [("lib.rs", ""), ("core/tests.rs", "")].map(|(file, text)| (file.to_owned(), text.to_owned()));
    assert_eq!(Library::of(&lost.into()).refused, ["no module leads to core/tests.rs"]);
}

/// A `mod.rs` is a file like the others, and `use super::Name` an import of it: a folder's
/// `mod.rs` either stands below its children, which use what it defines, or above them,
/// and passes on what they define. To declare a module (`mod child;`) is no import.
#[test]
fn no_files_of_a_wing_import_each_other() {
    let library = &*LIBRARY;
    for (wing_of, _) in WINGS {
        assert!(library.files.iter().any(|file| wing(file) == wing_of), "{wing_of} has no files");
    }
    let found = circles(library);
    assert!(found.is_empty(), "files import each other: {found:#?}");
}

#[test]
fn a_circle_is_seen_however_it_is_written() {
    let names = |files: &[(&str, &str)]| circles(&planted(files)).into_keys().map(str::to_owned).collect::<Vec<_>>();
    let three = [
        ("core/a.rs", "use super::b::{self, c::{X, Y}};"),
        ("core/b/mod.rs", "use std::fmt;"),
        ("core/b/c.rs", "pub(crate) use crate::core::d::Z;"),
        ("core/d.rs", "fn d() -> super::a::W {}"),
        // It leads into the circle, and is not of it.
        ("core/e.rs", "use super::a;"),
    ];
    assert_eq!(names(&three), ["core/a.rs", "core/b/c.rs", "core/d.rs"]);
    assert!(names(&three[..3]).is_empty());
    // What the path goes through is no part of these: only where it leads.
    for text in [
        "use super::b; fn f(x: b::c::X) {}",
        "use super::b as other; fn f(x: other::c::X) {}",
        "use super::*; fn f(x: b::c::X) {}",
        "fn f() { dbg!(super::b::c::x()); }",
    ] {
        let files = [("core/a.rs", text), ("core/b/mod.rs", ""), ("core/b/c.rs", "use crate::core::a::Y;")];
        assert_eq!(names(&files), ["core/a.rs", "core/b/c.rs"], "{text}");
    }
    for child in [
        "use super::Y;",
        "use crate::core::Y;",
        "fn f(x: super::Y) {}",
        "use super as up; fn f(x: up::Y) {}",
        "use super::*;",
        "macro_rules! m { () => { $crate::core::Y }; }",
        "mod inner { use super::super::Y; }",
    ] {
        for parent in ["use a::X;", "fn f() { a::planted() }", "pub use self::a::X;", "fn f() { vec![a::planted()]; }"]
        {
            assert_eq!(names(&[("core/mod.rs", parent), ("core/a.rs", child)]).len(), 2, "{parent} {child}");
        }
        // To declare it is no import.
        assert!(names(&[("core/mod.rs", ""), ("core/a.rs", child)]).is_empty(), "{child}");
    }
}
