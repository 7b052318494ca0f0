//! The table in README.md is what a full run printed.

use std::path::Path;

const BEGIN: &str = "<!-- killbox -->\n";
const END: &str = "<!-- /killbox -->\n";

/// Whether README.md shows this table; `write` makes it so.
pub fn compare(table: &str, write: bool) -> bool {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(&path).expect("README.md");
    let Some((before, rest)) = readme.split_once(BEGIN) else { return complain("it has no place for it") };
    let Some((shown, after)) = rest.split_once(END) else { return complain("its place has no end") };
    if shown == table {
        println!("README.md shows this table");
        return true;
    }
    if write {
        std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).expect("README.md can be written");
        println!("README.md shows this table now");
        return true;
    }
    let is_in = |text: &str, line: &str| text.lines().any(|other| other == line);
    for line in shown.lines().filter(|line| !is_in(table, line)) {
        println!("- {line}");
    }
    for line in table.lines().filter(|line| !is_in(shown, line)) {
        println!("+ {line}");
    }
    complain("what it shows differs")
}

fn complain(what: &str) -> bool {
    println!("BROKEN: README.md does not show this table: {what}; with --write it will");
    false
}
