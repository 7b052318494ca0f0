//! What the fuzz targets have kept, through their checks: see `fuzz/README.md`.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

#[path = "../../../fuzz/src/canonical.rs"]
pub(crate) mod canonical;
#[path = "../../../fuzz/src/keys.rs"]
mod keys;
#[path = "../../../fuzz/src/multipart.rs"]
pub(crate) mod multipart;
#[path = "../../../fuzz/src/preferences.rs"]
mod preferences;
#[path = "../../../fuzz/src/wire.rs"]
mod wire;

/// Runs each input of a target, and says how many there are.
fn replay(target: &str, check: fn(&[u8])) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let inputs: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let holds = |input: &PathBuf| catch_unwind(|| check(&fs::read(input).unwrap())).is_ok();
    let failed: Vec<_> = inputs.iter().filter(|input| !holds(input)).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    inputs.len()
}

#[test]
fn every_line_is_a_key_or_an_error() {
    assert!(replay("keys", keys::check) > 20);
}

#[test]
fn every_input_is_a_record_or_an_error() {
    assert!(replay("wire", wire::check) > 20);
}

#[test]
fn every_line_is_preferences_or_says_nothing() {
    assert!(replay("preferences", preferences::check) > 10);
}

#[test]
fn two_bodies_of_json_are_the_same_if_they_mean_the_same() {
    assert!(replay("canonical", canonical::check) > 50);
}

#[test]
fn two_multipart_bodies_are_the_same_if_no_receiver_can_tell_them_apart() {
    assert!(replay("multipart", multipart::check) > 30);
}

/// Each target has its file, its place in fuzz/Cargo.toml, and a test here.
#[test]
fn every_target_is_replayed() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let names = |folder: &str| {
        let entries = fs::read_dir(fuzz.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        let mut names: Vec<_> = entries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    let targets = names("fuzz_targets");
    assert_eq!((&names("src"), &names("corpus")), (&targets, &targets));
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for target in targets {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "{target}");
        assert!(include_str!("corpus.rs").contains(&format!("replay(\"{target}\"")), "{target}");
    }
}
