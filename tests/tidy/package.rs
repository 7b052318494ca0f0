//! What the package says of itself: its files, its features, the crates in its API.

use std::collections::BTreeSet;
use std::fs;

use crate::root;

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The text between these two, of the first place with both.
fn between(text: &str, start: &str, end: &str) -> String {
    text.split(start).nth(1).unwrap().split(end).next().unwrap().to_owned()
}

fn quoted(text: &str) -> BTreeSet<String> {
    text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Where the links of README lead that are no addresses.
#[test]
fn what_the_readme_links_to_is_in_the_package() {
    let included = quoted(&between(&read("Cargo.toml"), "\ninclude = [", "]"));
    let readme = read("README.md");
    let links = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let links: Vec<_> = links.filter(|link| !link.contains("://") && !link.starts_with('#')).collect();
    assert!(links.len() > 20, "the links are not found any more");
    for link in links {
        assert!(root().join(link).exists(), "{link} is not there");
        let first = link.split(['/', '#']).next().unwrap();
        assert!(included.contains(first), "{link} is not in the package");
    }
}

#[test]
fn each_feature_is_in_the_documents() {
    let features = between(&read("Cargo.toml"), "\n[features]\n", "\n[");
    let names = features.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);
    let names: Vec<_> = names.filter(|name| *name != "default" && !name.starts_with('#')).collect();
    assert!(names.len() > 10, "the features are not found any more");
    let (library, readme) = (read("src/lib.rs"), read("README.md"));
    for name in names {
        assert!(library.contains(&format!("//! - `{name}`: ")), "lib.rs does not say what `{name}` is");
        assert!(readme.contains(&format!("`{name}`")), "README does not name `{name}`");
    }
}

/// A crate that users see is one of those that may be there, and its line of the
/// documents says why.
#[test]
fn each_crate_in_the_surface_is_an_allowed_one() {
    let package = read("Cargo.toml");
    let allowed = quoted(&between(&package, "allowed_external_types = [", "]"));
    let surface = read("docs/public-api.txt");
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut known = BTreeSet::new();
    for line in surface.lines().filter(|line| !line.starts_with('#')) {
        for word in line.split(|c: char| !is_name(c) && c != ':') {
            if let Some((first, _)) = word.split_once("::").filter(|(first, _)| first.starts_with(char::is_lowercase)) {
                known.insert(first.to_owned());
            }
        }
    }
    let seen: BTreeSet<_> =
        package.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.replace('-', "_")).collect();
    let foreign: Vec<_> = known.iter().filter(|name| seen.contains(*name) && *name != "testing").collect();
    assert!(foreign.len() > 5, "the surface is not found any more: {foreign:?}");
    for name in foreign {
        assert!(allowed.contains(&format!("{name}::*")), "{name} is not in allowed_external_types");
    }
}

#[test]
fn each_dependency_has_its_row() {
    let (package, rows) = (read("Cargo.toml"), read("docs/dependencies.md"));
    let part = between(&package, "\n[dependencies]\n", "\n[lints");
    let names = part.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    let names: Vec<_> = names.map(|(name, _)| name).collect();
    assert!(names.len() > 20, "the dependencies are not found any more");
    let table: String =
        rows.lines().filter(|line| line.starts_with("| ")).map(|line| line.split(" | ").next().unwrap()).collect();
    let words: BTreeSet<_> = table.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').collect();
    let missing: Vec<_> = names.iter().filter(|name| !words.contains(*name)).collect();
    assert!(missing.is_empty(), "docs/dependencies.md has no row for {missing:?}");
}

/// What the crate depends on with these features.
fn needed(package: &str, features: &BTreeSet<String>) -> BTreeSet<String> {
    let part = between(package, "\n[dependencies]\n", "\n[");
    let lines = part.lines().filter_map(|line| line.split_once(" = ")).filter(|(name, _)| !name.starts_with('#'));
    let always = lines.filter(|(_, what)| !what.contains("optional = true")).map(|(name, _)| name.to_owned());
    let mut needed: BTreeSet<_> = always.collect();
    let mut left: Vec<_> = features.iter().cloned().collect();
    while let Some(feature) = left.pop() {
        let table = between(package, "\n[features]\n", "\n[");
        let line = table.lines().find_map(|line| line.strip_prefix(&format!("{feature} = ["))).unwrap();
        for part in quoted(line) {
            match part.strip_prefix("dep:") {
                Some(name) => drop(needed.insert(name.to_owned())),
                None if part.contains('/') => {}
                None => left.push(part),
            }
        }
    }
    needed
}

/// Packages of their own have lock files of their own, and are built with `--locked`: a dependency
/// that comes to the crate has to come to them, and one that comes to another package that they use.
#[test]
fn lock_files_of_other_packages_know_what_the_crate_depends_on() {
    let package = read("Cargo.toml");
    for folder in ["benches/compare", "fuzz"] {
        let line = between(&read(&format!("{folder}/Cargo.toml")), "\ntower-idempotency = {", "\n");
        let needed = needed(&package, &quoted(&between(&line, "features = [", "]")));
        assert!(needed.len() > 15, "the dependencies are not found any more");
        assert_locked(folder, "tower-idempotency", &needed);
    }
    let servers = needed(&read("tests/servers/Cargo.toml"), &BTreeSet::new());
    assert!(servers.len() > 3, "the dependencies are not found any more");
    assert_locked("benches/compare", "servers", &servers);
}

fn assert_locked(folder: &str, package: &str, needed: &BTreeSet<String>) {
    let lock = read(&format!("{folder}/Cargo.lock"));
    let block = between(&lock, &format!("\nname = \"{package}\"\n"), "\n[[package]]");
    // Where there are several, the version is behind the name.
    let locked: BTreeSet<_> =
        quoted(&block).into_iter().filter_map(|name| Some(name.split(' ').next()?.to_owned())).collect();
    let missing: Vec<_> = needed.difference(&locked).collect();
    assert!(
        missing.is_empty(),
        "{folder}/Cargo.lock lacks {missing:?} of {package}: run `cargo check` there, and commit it"
    );
}
