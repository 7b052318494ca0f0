//! `tests/README.md` names tests that exist, and leaves out no file of tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::root;
use crate::sources::rust_files;

/// All that the index names: a path, and a test in it or `*`.
fn named() -> Vec<(Vec<String>, String)> {
    let index = fs::read_to_string(root().join("tests/README.md")).unwrap();
    let index = index.split("## From promise to test").nth(1).unwrap();
    let rows = index.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    let cells = rows.filter_map(|row| row.trim_end_matches([' ', '|']).rsplit(" | ").next());
    let paths = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    paths
        .map(|path| {
            let mut parts: Vec<_> = path.split("::").map(str::to_owned).collect();
            let test = parts.pop().unwrap();
            (parts, test)
        })
        .collect()
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

#[test]
fn every_test_of_the_index_is_there() {
    let named = named();
    assert!(named.len() > 150, "the index is not found any more: {}", named.len());
    let lost: Vec<_> = named
        .iter()
        .filter(|(path, test)| {
            let text = file(path).map(|file| fs::read_to_string(file).unwrap()).unwrap_or_default();
            let defines = |end: &str| text.contains(&format!("fn {test}{end}"));
            if test == "*" { text.is_empty() } else { !defines("(") && !defines("<") }
        })
        .map(|(path, test)| format!("{}::{test}", path.join("::")))
        .collect();
    assert!(lost.is_empty(), "{lost:#?}");
}

#[test]
fn every_file_of_tests_is_in_the_index() {
    let known: BTreeSet<_> = named().iter().filter_map(|(path, _)| file(path)).collect();
    let files = rust_files(&root().join("tests"));
    let missing: Vec<_> = files.iter().filter(|file| has_tests(file) && !known.contains(*file)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}
