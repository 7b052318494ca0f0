//! What is true of each line of the sources, and what documents say of the code. What
//! the files name of each other is for `tests/architecture`, which parses them.
//!
//! A program of its own: it needs the library for next to nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

mod index;
mod operations;
mod package;
#[path = "../support/sources.rs"]
mod sources;

use std::fs;
use std::path::{Path, PathBuf};

use sources::rust_files;

/// A source file of the library: its path below `src`, and its code lines.
struct Source {
    path: String,
    lines: Vec<String>,
}

impl Source {
    fn is_under(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.contains("/tests/")
    }

    fn mentions(&self, word: &str) -> Option<String> {
        let line = self.lines.iter().find(|line| line.contains(word))?;
        Some(format!("{}: {:?} in {}", self.path, word, line.trim()))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// All sources of the library, less comments, docs and inline test modules.
fn sources() -> Vec<Source> {
    let src = root().join("src");
    let files = rust_files(&src);
    assert!(files.len() > 20, "the sources are somewhere else");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let lines = less_tests(&text);
        let lines = lines.lines().filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned).collect();
        let path = path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
        Source { path, lines }
    };
    files.into_iter().map(read).collect()
}

/// rustfmt ends a module at its own indentation: what stands behind it is no test.
fn less_tests(text: &str) -> String {
    let mut parts = text.split("#[cfg(test)]\nmod tests {");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |code, part| code + part.split_once("\n}\n").map_or("", |(_, behind)| behind))
}

#[test]
fn what_stands_behind_tests_is_read() {
    assert_eq!(less_tests("a\n#[cfg(test)]\nmod tests {\n    b {\n    }\n}\nc\n"), "a\nc\n");
}

#[track_caller]
fn forbid(words: &[&str], applies: impl Fn(&Source) -> bool) {
    let sources: Vec<_> = sources().into_iter().filter(|source| !source.is_test() && applies(source)).collect();
    assert!(!sources.is_empty(), "the rule applies to nothing");
    let found: Vec<_> =
        sources.iter().flat_map(|source| words.iter().filter_map(|word| source.mentions(word))).collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// What ARCHITECTURE says of the files that a request turns in, and how many there may be.
#[test]
fn the_two_walks_are_short_and_name_files() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    assert!(text.lines().count() <= 200, "ARCHITECTURE is {} lines long", text.lines().count());
    let walks = text.split("<!-- walks -->").nth(1).unwrap().split("<!-- /walks -->").next().unwrap();
    let (replay, first) = walks.split_once("**A first request**").unwrap();
    let files = |text: &str| -> Vec<String> {
        text.split('`').skip(1).step_by(2).filter(|span| span.contains('/')).map(str::to_owned).collect()
    };
    let missing: Vec<_> = files(walks).into_iter().filter(|file| !root().join("src").join(file).is_file()).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    // A step opens with its file: it is the one that counts.
    let steps = |text: &str| -> Vec<String> {
        let opens = |line: &&str| line.split_once(". `").is_some_and(|(number, _)| number.parse::<u8>().is_ok());
        text.lines().filter(opens).filter_map(|line| files(line).into_iter().next()).collect()
    };
    let (replay, first) = (steps(replay), steps(first));
    assert_eq!(replay.len(), 8, "{replay:#?}");
    let mut all = [&replay[..7], &first[..]].concat();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 12, "{all:#?}");
}

#[test]
fn only_the_wire_knows_how_records_are_encoded() {
    forbid(&["minicbor"], |source| !source.is_under("core/wire/") && !source.is_under("core/tests/"));
    forbid(&["Serialize, Deserialize", "derive(Serialize", "derive(Deserialize"], |source| {
        !source.is_under("store/conformance")
    });
}

#[test]
fn the_middleware_has_no_error_of_its_own() {
    let sources = sources();
    let service = sources.iter().find(|source| source.path == "http/service.rs").unwrap();
    assert!(service.mentions("type Error = S::Error;").is_some());
}

/// `Duration::MAX` may be set for everything: what multiplies lengths and adds
/// them to the clock does so in one place, and saturates.
#[test]
fn only_the_back_off_multiplies_lengths_and_adds_them_to_the_clock() {
    forbid(&["mul_f64(", "mul_f32(", "Instant::now() +"], |source| source.path != "util/backoff.rs");
}

#[test]
fn only_one_file_builds_refusals() {
    forbid(&["Response::new(", "Response::builder(", "problem+json"], |source| {
        source.path != "http/problem.rs" && source.path != "operator/inspector/page.rs"
    });
}

/// What clients and handlers say is not for logs: what holds it shows how much
/// there is.
#[test]
fn no_debug_is_derived_around_what_clients_send() {
    let raw = ["Bytes", "Vec<u8>", "&[u8]", "HeaderValue", "HeaderMap", "Uri", "Parts"];
    let is_raw = |line: &str| {
        let words = |word: &&&str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|other| other == **word);
        let field = !line.trim_start().starts_with("#[");
        field && (raw.iter().any(|word| words(&word)) || line.contains("Vec<u8>") || line.contains("&[u8]"))
    };
    let mut bad = Vec::new();
    let mut derived = 0;
    for source in sources().into_iter().filter(|source| !source.is_test()) {
        let mut lines = source.lines.iter();
        while let Some(line) = lines.next() {
            if !(line.contains("derive(") && line.contains("Debug")) {
                continue;
            }
            derived += 1;
            let indented = line.len() - line.trim_start().len();
            let end = |line: &&String| {
                let own = line.len() - line.trim_start().len() == indented;
                own && (line.trim_end().ends_with('}') || line.trim_end().ends_with(';'))
            };
            let mut item: Vec<&String> = Vec::new();
            for line in lines.by_ref() {
                item.push(line);
                if end(&line) {
                    break;
                }
            }
            // What links to the documents of the problems is the operator's.
            if item.iter().any(|line| is_raw(line)) && !item.iter().any(|line| line.contains("struct Problems")) {
                bad.push(format!("{}: {}", source.path, item.iter().map(|line| line.trim()).collect::<String>()));
            }
        }
    }
    assert!(derived > 80, "the derives are not found any more: {derived}");
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn nothing_panics_on_purpose() {
    forbid(&[".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!(", "unreachable!("], |source| {
        // What fails a test panics.
        !source.is_under("store/conformance") && !source.is_under("testing/")
    });
}

#[test]
fn files_are_small() {
    let mut sizes: Vec<_> = sources()
        .into_iter()
        .filter(|source| !source.is_test())
        .map(|source| (source.lines.iter().filter(|line| !line.trim().is_empty()).count(), source.path))
        .collect();
    sizes.sort();
    let median = sizes[sizes.len() / 2].0;
    let (largest, path) = sizes.last().unwrap();
    println!("files: {} of them, median {median} lines of code, largest {largest} ({path})", sizes.len());
    assert!(median <= 150, "median {median}");
    assert!(*largest <= 400, "{path} has {largest} lines of code");
}

#[test]
fn functions_are_small() {
    let mut lengths: Vec<_> = sources().iter().filter(|source| !source.is_test()).flat_map(functions).collect();
    lengths.sort();
    assert!(lengths.len() > 200, "functions are not found any more");
    let p90 = lengths[lengths.len() * 9 / 10].0;
    let (longest, name) = lengths.last().unwrap();
    println!("functions: {} of them, p90 {p90} lines, longest {longest} ({name})", lengths.len());
    assert!(p90 <= 20, "p90 {p90}");
    assert!(*longest <= 60, "{name} has {longest} lines");
}

/// Length and name of every function: rustfmt ends each at its own indentation.
fn functions(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (start, line) in source.lines.iter().enumerate() {
        let code = line.trim_start();
        let is_fn = code.split_whitespace().take(5).any(|word| word == "fn") && !code.ends_with(';');
        if !is_fn || code.ends_with('}') {
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - code.len()]);
        if let Some(length) = source.lines[start..].iter().position(|line| *line == end) {
            found.push((length + 1, format!("{}: {}", source.path, code.trim_end_matches('{'))));
        }
    }
    found
}

/// Not `--offline`: what only other targets or packages need may not be here yet.
fn cargo(arguments: &[&str]) -> String {
    let cargo = std::process::Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    String::from_utf8(cargo.stdout).unwrap()
}

fn packages() -> Vec<serde_json::Value> {
    let metadata = cargo(&["metadata", "--format-version", "1", "--all-features", "--locked"]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Features that need a newer Rust than the rest, and which.
const NEWER_RUST: [(&str, &str); 2] = [("sqlx-postgres", "1.94"), ("sqlx-sqlite", "1.94")];

/// What the dependencies that these features bring along need, and its name. Not
/// what the tests do.
fn rust_versions(packages: &[serde_json::Value], features: &str) -> Vec<(Vec<u32>, String)> {
    let tree =
        ["tree", "--no-default-features", "--features", features, "-e", "normal", "--prefix", "none", "--locked"];
    let tree = cargo(&[&tree[..], &["-f", "{p}"]].concat());
    let lines: std::collections::BTreeSet<_> = tree.lines().collect();
    let found = packages.iter().filter(|package| {
        let name = format!("{} v{}", package["name"].as_str().unwrap(), package["version"].as_str().unwrap());
        lines.iter().any(|line| line.strip_prefix(&*name).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')))
    });
    found
        .filter_map(|package| {
            let needed = package["rust_version"].as_str()?;
            Some((parse_version(needed), format!("{} needs {needed}", package["name"])))
        })
        .collect()
}

#[test]
fn the_declared_rust_version_is_true_of_every_dependency() {
    let packages = packages();
    let own = packages.iter().find(|package| package["name"] == "tower-idempotency").unwrap();
    let ours = parse_version(own["rust_version"].as_str().expect("rust-version is declared"));
    let features = own["features"].as_object().unwrap().keys();
    let features: Vec<_> =
        features.map(String::as_str).filter(|name| NEWER_RUST.iter().all(|(newer, _)| newer != name)).collect();
    let needed = rust_versions(&packages, &features.join(","));
    assert!(needed.len() > 50, "the dependencies are not found any more");
    let newer: Vec<_> = needed.iter().filter(|(version, _)| *version > ours).collect();
    assert!(newer.is_empty(), "{newer:?}");
}

#[test]
fn a_feature_that_needs_a_newer_rust_says_which() {
    let packages = packages();
    for (feature, version) in NEWER_RUST {
        let highest = rust_versions(&packages, feature).into_iter().max().unwrap();
        assert_eq!(highest.0, parse_version(version), "{feature}: {}", highest.1);
        let says = format!("`{feature}` needs Rust {version}");
        assert!(fs::read_to_string(root().join("README.md")).unwrap().contains(&says), "README does not say: {says}");
    }
}

/// What `cargo deny check licenses sources` says, where that is not installed.
#[test]
fn every_dependency_has_a_licence_that_is_allowed_and_comes_from_the_registry() {
    let deny = fs::read_to_string(root().join("deny.toml")).unwrap();
    let allowed = deny.split("allow = [").nth(1).unwrap().split(']').next().unwrap();
    let allowed: Vec<_> = allowed.split('"').skip(1).step_by(2).collect();
    assert!(allowed.contains(&"MIT"), "the list of licences is not found any more: {allowed:?}");
    let any = |clause: &str| clause.trim_matches(['(', ')']).split(" OR ").any(|name| allowed.contains(&name.trim()));
    let good = |licence: &str| licence.replace('/', " OR ").split(" AND ").all(any);
    let all = packages();
    let foreign: Vec<_> = all.iter().filter(|package| !package["source"].is_null()).collect();
    assert!(foreign.len() > 50, "the dependencies are not found any more");
    let bad: Vec<_> = foreign
        .iter()
        .filter(|package| {
            let registry = package["source"].as_str().is_some_and(|source| source.starts_with("registry+"));
            !registry || !package["license"].as_str().is_some_and(good)
        })
        .map(|package| format!("{}: {}, from {}", package["name"], package["license"], package["source"]))
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

/// What is counted for a whole server is not a test's own, unless the server is.
#[test]
fn a_test_that_measures_a_server_has_it_to_itself() {
    let counts = ["wal_insert_lsn", ".log()", "RESETSTAT", "total_net", "cmdstat_", "cpu_nanos", "pg_stat_database"];
    let (mut measuring, mut shared) = (0, Vec::new());
    for file in rust_files(&root().join("tests/servers/tests")) {
        let text = fs::read_to_string(&file).unwrap();
        // rustfmt ends a function at its own indentation, and a test has none.
        for test in text.split("#[tokio::test").skip(1).filter_map(|test| test.split("\n}\n").next()) {
            let name = test.split("fn ").nth(1).and_then(|rest| rest.split('(').next()).unwrap_or_default();
            let measures = counts.iter().any(|count| test.contains(count));
            measuring += usize::from(measures);
            if measures && ["Postgres::shared()", "fresh()"].iter().any(|server| test.contains(server)) {
                shared.push(format!("{}: {name}", file.display()));
            }
        }
    }
    assert!(measuring >= 6, "the tests that measure are not found any more: {measuring}");
    assert!(shared.is_empty(), "they count what other tests do, too: {shared:#?}");
}

fn parse_version(version: &str) -> Vec<u32> {
    let mut numbers: Vec<u32> = version.split('.').map(|number| number.parse().unwrap()).collect();
    numbers.resize(3, 0);
    numbers
}

/// What README shows runs as shown.
#[test]
fn the_readme_shows_the_quickstart() {
    let example = fs::read_to_string(root().join("examples/quickstart.rs")).unwrap();
    let program = &example[example.find("\nuse ").unwrap() + 1..];
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains(&format!("```rust,no_run\n{program}```")), "they differ");
    assert!(!readme.contains("\n# "), "a hidden line");
}

#[test]
fn the_guide_shows_the_stories() {
    let stories = fs::read_to_string(root().join("tests/testing/stories.rs")).unwrap();
    let page = fs::read_to_string(root().join("src/guide/testing.md")).unwrap();
    assert!(page.contains(&format!("```rust,ignore\n{stories}```")), "they differ");
}

/// Each has the name of an actor in its place: the client, the handler, the holder, the
/// completer, the operator.
const NO_ACTORS: [&str; 8] = ["nobody", "whoever", "someone", "somebody", "anyone", "anybody", "everybody", "human"];

#[test]
fn the_guide_the_readme_and_messages_name_the_actor() {
    let mut texts: Vec<_> = sources()
        .into_iter()
        .filter(|source| !source.is_test())
        .map(|source| (source.path, source.lines.join("\n")))
        .collect();
    let guide = fs::read_dir(root().join("src/guide")).unwrap().map(|entry| entry.unwrap().path());
    let pages = guide.filter(|path| path.extension().is_some_and(|kind| kind == "md"));
    let pages: Vec<_> = pages.chain([root().join("README.md")]).collect();
    assert!(pages.len() > 8, "the pages are not found any more");
    texts.extend(pages.into_iter().map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap())));
    let nameless = |line: &str| {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.any(|word| NO_ACTORS.contains(&&*word.to_lowercase()))
    };
    let found: Vec<_> = texts
        .iter()
        .flat_map(|(path, text)| {
            text.lines().filter(|line| nameless(line)).map(move |line| format!("{path}: {}", line.trim()))
        })
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// README's rows are rows of the guide, and a run of the killbox holds those.
#[test]
fn the_readme_shows_ten_rows_of_the_guide() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let (readme, guide) = (read("README.md"), read("src/guide/crashes.md"));
    let shown = readme.split("<!-- ten rows -->").nth(1).unwrap().split("<!-- /ten rows -->").next().unwrap();
    let (headers, rows): (Vec<_>, Vec<_>) = shown
        .lines()
        .filter(|line| line.starts_with("| "))
        .partition(|line| line.starts_with("| when |") || line.starts_with("| fault |"));
    assert_eq!((headers.len(), rows.len()), (2, 10));
    let strange: Vec<_> = headers.iter().chain(&rows).filter(|row| !guide.lines().any(|line| line == **row)).collect();
    assert!(strange.is_empty(), "{strange:#?}");
    assert!(readme.lines().count() < 200, "README is {} lines long", readme.lines().count());
}
