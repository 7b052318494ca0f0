//! `tests/README.md`, `docs/requirements.md` and `docs/known-bugs.md` name tests that
//! exist; the first leaves out no file of tests, the others no id.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::root;
use crate::sources::rust_files;

/// A path, and a test in it or `*`.
type Named = (Vec<String>, String);

/// The tests that a cell names.
fn tests_of(cell: &str) -> impl Iterator<Item = Named> {
    let paths = cell.split('`').skip(1).step_by(2).filter(|path| path.contains("::"));
    paths.map(|path| {
        let mut parts: Vec<_> = path.split("::").map(str::to_owned).collect();
        let test = parts.pop().unwrap();
        (parts, test)
    })
}

/// The cells of each row of the tables in this text, less their heads.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.map(|row| row.split(" | ").collect())
}

/// All that the last cells of these tables name.
fn named_in(text: &str) -> Vec<Named> {
    rows(text).filter_map(|row| row.last().copied()).flat_map(tests_of).collect()
}

/// All that the index names.
fn named() -> Vec<Named> {
    let index = fs::read_to_string(root().join("tests/README.md")).unwrap();
    named_in(index.split("## From promise to test").nth(1).unwrap())
}

fn document(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// The file that a path of the index stands for.
fn file(path: &[String]) -> Option<PathBuf> {
    let (first, rest) = path.split_first()?;
    let folders: &[&str] = match first.as_str() {
        "src" => &["src"],
        "conformance" => &["src/store/conformance"],
        _ => &["tests/{}", "tests/{}/tests", "tests/{}/src"],
    };
    let rest = rest.join("/");
    let below = |folder: &&str| {
        let folder = root().join(folder.replace("{}", first)).join(&rest);
        let own = folder.with_extension("rs");
        [own, folder.join("mod.rs"), folder.join("main.rs"), folder.join("lib.rs")]
    };
    folders.iter().flat_map(below).find(|file| file.is_file())
}

fn has_tests(file: &Path) -> bool {
    let marks = ["#[test]", "#[tokio::test", "with_each_driver! {", "conformance_tests!("];
    // Further in is what macros make.
    let is_test = |line: &str| {
        let code = line.trim_start();
        line.len() - code.len() <= 4 && marks.iter().any(|mark| code.starts_with(mark))
    };
    fs::read_to_string(file).unwrap().lines().any(is_test)
}

/// Which of these are not there.
fn lost(named: &[Named]) -> Vec<String> {
    let is_lost = |(path, test): &&Named| {
        let text = file(path).map(|file| fs::read_to_string(file).unwrap()).unwrap_or_default();
        let defines = |end: &str| text.contains(&format!("fn {test}{end}"));
        if test == "*" { text.is_empty() } else { !defines("(") && !defines("<") }
    };
    named.iter().filter(is_lost).map(|(path, test)| format!("{}::{test}", path.join("::"))).collect()
}

#[test]
fn every_test_of_the_index_is_there() {
    let named = named();
    assert!(named.len() > 150, "the index is not found any more: {}", named.len());
    let lost = lost(&named);
    assert!(lost.is_empty(), "{lost:#?}");
}

/// Letters, and how many requirements each has.
const REQUIREMENTS: [(&str, u32); 15] = [
    ("K", 20),
    ("M", 9),
    ("P", 16),
    ("F", 17),
    ("C", 16),
    ("E", 16),
    ("X", 10),
    ("S", 11),
    ("D", 20),
    ("B", 12),
    ("H", 17),
    ("A", 6),
    ("O", 7),
    ("V", 4),
    ("J", 10),
];

/// What is wrong with a table of which each row has one of these ids, and tests or
/// one of these words why there are none.
fn wrong(text: &str, ids: &[String], excuses: &[&str]) -> Vec<String> {
    let rows: Vec<_> = rows(text).filter(|row| row[0] != "id").collect();
    let mut wrong: Vec<_> = ids
        .iter()
        .filter(|id| rows.iter().filter(|row| row[0] == **id).count() != 1)
        .map(|id| format!("{id} has not one row"))
        .collect();
    for row in &rows {
        let last = row[row.len() - 1];
        if !ids.iter().any(|id| id == row[0]) || row.len() != 4 {
            wrong.push(format!("{} is no row of this table", row[0]));
        }
        if tests_of(last).next().is_none() && !excuses.iter().any(|excuse| last.starts_with(excuse)) {
            wrong.push(format!("{} has neither a test nor a reason", row[0]));
        }
    }
    wrong.extend(lost(&named_in(text)));
    wrong
}

fn requirement_ids() -> Vec<String> {
    REQUIREMENTS.iter().flat_map(|(letter, count)| (1..=*count).map(move |at| format!("{letter}{at:02}"))).collect()
}

#[test]
fn every_requirement_has_its_row_and_its_tests() {
    let (text, ids) = (document("requirements.md"), requirement_ids());
    assert_eq!(ids.len(), 191);
    let excuses = ["Setting: ", "Not ours: "];
    let found = wrong(&text, &ids, &excuses);
    assert!(found.is_empty(), "{found:#?}");
    // It sees a row that is gone, and a test and a reason that are.
    for (from, to) in [
        ("| P16 |", "| P15 |"),
        ("`http::admission::post_and_patch_are_covered`", "`http::admission::post_and_patch`"),
        ("Not ours: caches", "Caches"),
    ] {
        assert!(text.contains(from), "{from}");
        assert!(!wrong(&text.replace(from, to), &ids, &excuses).is_empty(), "{from}");
    }
}

#[test]
fn every_known_bug_has_its_row_and_its_tests() {
    let numbers = (1..=72).map(|number| number.to_string());
    let ids: Vec<_> = numbers.chain((1..=16).map(|number| format!("HB{number}"))).collect();
    let found = wrong(&document("known-bugs.md"), &ids, &["Can't exist: ", "Not ours: "]);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_file_of_tests_is_in_the_index() {
    let known: BTreeSet<_> = named().iter().filter_map(|(path, _)| file(path)).collect();
    let files = rust_files(&root().join("tests"));
    let missing: Vec<_> = files.iter().filter(|file| has_tests(file) && !known.contains(*file)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}
