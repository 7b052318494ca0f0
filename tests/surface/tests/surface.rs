//! The public surface is the one in `docs/public-api.txt`, and the list sees what it is
//! for: in the sources of the library, and in small ones that it does not have.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::path::Path;
use std::sync::LazyLock;
use std::{env, fs};

use surface::{Sources, read, surface};

const HEAD: &str = "\
# What users of this crate can name. If a change here is meant, write it anew:
#   SURFACE_REGENERATE=1 cargo test -p surface
# A line in brackets: the features that it takes. `..`: fields that are not public.
";

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The features, and what each brings: the part of the package that users choose from.
fn features() -> String {
    let package = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let part = package.split("\n[features]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let lines = part.lines().filter(|line| line.contains(" = ")).filter(|line| !line.starts_with('#'));
    lines.map(|line| format!("feature {line}\n")).collect()
}

#[test]
fn the_features_are_in_the_list() {
    assert!(features().starts_with("feature default = []\n"), "what is on by default is a choice of the user's");
    assert!(features().lines().count() > 10, "the features are not found any more");
}

fn library() -> Sources {
    read(&root().join("src"))
}

/// Lines of `one` that are not in `other`, as often as they are missing there.
fn missing(one: &str, other: &str) -> Vec<String> {
    let mut left: Vec<_> = other.lines().collect();
    left.sort_unstable();
    let mut lines: Vec<_> = one.lines().collect();
    lines.sort_unstable();
    let mut left = left.into_iter().peekable();
    let is_missing = |line: &&str| {
        while left.next_if(|other| other < line).is_some() {}
        left.next_if_eq(line).is_none()
    };
    lines.into_iter().filter(is_missing).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn the_public_surface_is_the_one_that_is_checked_in() {
    let (file, now) = (root().join("docs/public-api.txt"), format!("{HEAD}{}{}", features(), surface(&library())));
    if env::var_os("SURFACE_REGENERATE").is_some() {
        fs::write(&file, &now).unwrap();
    }
    let then = fs::read_to_string(&file).unwrap();
    let (gone, new) = (missing(&then, &now), missing(&now, &then));
    assert!(
        then == now,
        "the public surface is another one. Gone: {gone:#?}, new: {new:#?}. If that is meant, \
         SURFACE_REGENERATE=1 cargo test -p surface, look at the diff, and say it in CHANGELOG.md"
    );
}

/// What a change of the library takes from the list, and what it adds.
fn changed(file: &str, from: &str, to: &str) -> (Vec<String>, Vec<String>) {
    static BEFORE: LazyLock<(Sources, String)> = LazyLock::new(|| {
        let sources = library();
        let before = surface(&sources);
        (sources, before)
    });
    let (mut sources, before) = BEFORE.clone();
    let text = sources.get_mut(file).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{file} has not one {from:?}");
    *text = text.replace(from, to);
    let after = surface(&sources);
    (missing(&before, &after), missing(&after, &before))
}

fn one(line: &str) -> Vec<String> {
    vec![line.to_owned()]
}

#[test]
fn a_new_public_method_is_a_new_line() {
    let to = "impl Default for Backoff {\n    ";
    let planted = "impl Backoff {\n    pub fn planted(&self) -> Duration {\n        self.max\n    }\n}\n\n";
    let (gone, new) = changed("util/backoff.rs", to, &format!("{planted}{to}"));
    assert_eq!((gone, new), (Vec::new(), one("pub fn planted(&self) -> std::time::Duration")));
    // One that is not public is none.
    let private = planted.replace("pub fn", "pub(crate) fn");
    let (gone, new) = changed("util/backoff.rs", to, &format!("{private}{to}"));
    assert_eq!((gone, new), (Vec::new(), Vec::new()));
}

#[test]
fn a_variant_that_is_gone_is_a_line_that_is_gone() {
    let (gone, new) = changed("telemetry/refusal.rs", "\n    Overloaded,\n", "\n");
    assert_eq!((gone, new), (one("Overloaded"), Vec::new()));
}

#[test]
fn another_signature_is_another_line() {
    let (from, to) = ("pub fn longest(&self, tries: u32)", "pub fn longest(&self, tries: u64)");
    let (gone, new) = changed("util/backoff.rs", from, to);
    assert_eq!(gone, one("pub fn longest(&self, tries: u32) -> std::time::Duration"));
    assert_eq!(new, one("pub fn longest(&self, tries: u64) -> std::time::Duration"));
    // The same word for another type, too.
    let (gone, new) =
        changed("operator/shown.rs", "use crate::core::{Hold, Key,", "use crate::core::{Hold, StepKey as Key,");
    assert_eq!((gone, new), (one("pub key: crate::Key"), one("pub key: crate::StepKey")));
}

#[test]
fn a_reexport_that_is_gone_takes_all_of_its_item_along() {
    let (gone, new) = changed("lib.rs", "pub use self::util::backoff::Backoff;\n", "");
    assert!(gone.contains(&"pub struct crate::Backoff".to_owned()), "{gone:?}");
    assert!(gone.contains(&"pub fn longest(&self, tries: u32) -> std::time::Duration".to_owned()), "{gone:?}");
    assert!(new.iter().any(|line| line == "not public: pub struct crate::util::backoff::Backoff"), "{new:?}");
    // At one of its two paths.
    let (gone, new) = changed("lib.rs", "pub use self::core::{Key, Mode, Status,", "pub use self::core::{Key, Mode,");
    assert!(gone.contains(&"pub use crate::core::Status = crate::Status".to_owned()), "{gone:?}");
    assert!(new.contains(&"pub enum crate::core::Status".to_owned()), "{new:?}");
}

#[test]
fn what_is_not_exhaustive_or_derived_or_gated_is_seen() {
    let (gone, new) = changed("engine/outcome.rs", "#[non_exhaustive]\npub enum Outcome", "pub enum Outcome");
    assert_eq!((gone, new), (one("#[non_exhaustive] pub enum crate::Outcome"), one("pub enum crate::Outcome")));
    let (gone, new) = changed("lib.rs", "#[cfg(feature = \"axum\")]\npub use", "pub use");
    assert_eq!((gone, new), (Vec::new(), Vec::new()), "the module of the item has the same gate");
    let (from, to) =
        ("pub use self::operator::Operator;", "#[cfg(feature = \"x\")]\npub use self::operator::Operator;");
    let (gone, new) = changed("lib.rs", from, to);
    assert_eq!((gone, new), (one("pub struct crate::Operator"), one("pub struct crate::Operator  [x]")));
}

fn crate_of<const N: usize>(files: [(&str, &str); N]) -> Sources {
    files.map(|(name, text)| (name.to_owned(), text.to_owned())).into()
}

#[test]
fn names_are_followed_through_modules_globs_and_renames() {
    let sources = crate_of([
        (
            "lib.rs",
            "mod a; pub mod open; pub use a::{One as First, deep::*}; pub use self::a::deep as module;
             pub use bytes::Bytes; #[doc(hidden)] pub use a::Unseen; #[cfg(test)] pub mod tests;",
        ),
        (
            "a/mod.rs",
            "pub mod deep; use std::fmt; use self::deep::Two;
             #[derive(Clone)] #[non_exhaustive] pub struct One { pub two: Two, #[cfg(feature = \"f\")] pub f: u8, own: Own }
             struct Own; pub struct Unseen;
             impl fmt::Debug for One {} impl Iterator for One { type Item = Own2; fn next(&mut self) {} }
             impl Clone for Own {} impl PartialEq<Own> for One {}
             #[cfg(feature = \"g\")] impl One { pub fn of(mut x: impl Into<Two>) -> Self {} fn own(&self) {} }
             pub type Own2 = Vec<u8>;",
        ),
        (
            "a/deep.rs",
            "pub enum Two { A, B(u8), C { x: super::One } } pub(crate) struct Three; pub(super) fn f() {}
             pub trait Job: Sized { const N: usize = 1; type Out: Clone; fn run(&self) {} fn must(self); #[doc(hidden)] fn unseen(&self); }
             impl Job for u8 {} pin_project! { pub struct Pinned<T> where T: Job { #[pin] t: T } }",
        ),
        ("open.rs", "pub use super::open::inner::f as g; mod inner { pub const fn f<'a>(x: &'a [u8; 2]) -> (u8, &'a str) {} } pub const X: u8 = inner::PRIVATE;"),
    ]);
    let expected = "\
pub use crate::Bytes = bytes::Bytes
#[non_exhaustive] pub struct crate::First
    pub two: crate::Two
    pub f: u8  [f]
    ..
    derive Clone
    impl Iterator for crate::First
        type Item = crate::a::Own2
    impl crate::First  [g]
        pub fn of(x: impl Into<crate::Two>) -> Self
    impl std::fmt::Debug for crate::First
pub trait crate::Job: Sized
    const N: usize = ..
    type Out: Clone
    fn run(&self) { .. }
    fn must(self)
    impl crate::Job for u8
pub struct crate::Pinned<T> where T: crate::Job
    ..
pub enum crate::Two
    A
    B(u8)
    C { x: crate::First }
pub mod crate::module
pub use crate::module::Job = crate::Job
pub use crate::module::Pinned = crate::Pinned
pub use crate::module::Two = crate::Two
pub mod crate::open
pub const crate::open::X: u8
pub const fn crate::open::g<'a>(x: &'a [u8; 2]) -> (u8, &'a str)
not public: pub type crate::a::Own2 = Vec<u8>
";
    let found = surface(&sources);
    assert_eq!(found, expected, "{found}");
}

/// What the list says of such a crate as it gives up.
fn refused<const N: usize>(files: [(&str, &str); N]) -> String {
    let sources = crate_of(files);
    let panic = std::panic::catch_unwind(|| surface(&sources)).expect_err("the list went past it");
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn what_it_can_not_follow_it_refuses() {
    let message = refused([("lib.rs", "mod a; pub use self::a::Gone;"), ("a.rs", "")]);
    assert!(message.contains("self::a::Gone"), "{message}");
    let message = refused([("lib.rs", "pub mod a;")]);
    assert!(message.contains("no file for the module a"), "{message}");
    let message = refused([("lib.rs", "enum E { A } pub use E::*;")]);
    assert!(message.contains("E in"), "{message}");
    let message = refused([("lib.rs", "types! { pub struct A; }")]);
    assert!(message.contains("types!"), "{message}");
    let message = refused([("lib.rs", "#[cfg_attr(feature = \"x\", derive(Clone))] pub struct A;")]);
    assert!(message.contains("cfg_attr"), "{message}");
    let message = refused([("lib.rs", "pub enum A { #[cfg_attr(feature = \"x\", non_exhaustive)] B { c: u8 } }")]);
    assert!(message.contains("cfg_attr"), "{message}");
    let message = refused([("lib.rs", "#[path = \"b.rs\"] pub mod a;"), ("b.rs", "")]);
    assert!(message.contains("#[path]"), "{message}");
    let message = refused([("lib.rs", "impl Gone { pub fn f() {} }")]);
    assert!(message.contains("whose is Gone"), "{message}");
}

#[test]
fn what_is_hidden_is_not_shown_by_what_is_not() {
    let message = refused([("lib.rs", "#[doc(hidden)] pub struct A; pub fn f() -> A {}")]);
    assert!(message.contains("crate::f shows crate::A, which is hidden"), "{message}");
}
