//! Loss of power: what was written and not synced may be gone, whole or in sectors.
//!
//! `power.c`, preloaded into the process under test, notes what it writes and syncs.
//! After it was killed, what it had not synced is taken away from its files again,
//! by lot, and then the store has to open with all that was acknowledged.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::tempdir;
use tower_idempotency::store::SqliteStore;

use super::random::Random;
use super::records::*;

/// Set for the process under test: where its store is.
const PATH: &str = "TOWER_IDEMPOTENCY_POWER";
/// What a disk writes at once.
const SECTOR: usize = 512;
/// How many callers write at the same time.
const CALLERS: usize = 6;

/// Not a test: what is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process of other tests"]
async fn a_process_without_power() {
    let Some(path) = std::env::var_os(PATH) else { return };
    let store = SqliteStore::open(path).unwrap();
    let callers = (0..CALLERS).map(|caller| tokio::spawn(work(store.clone(), caller)));
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
}

/// Claims, saves a step, answers, and says so after each, until it is killed.
async fn work(files: SqliteStore, caller: usize) {
    for n in 0.. {
        let name = format!("{caller}-{}-{n}", std::process::id());
        let (key, first) = (key(&name), claim_with(Some("17".repeat(200).into())));
        let fence = store(&files, &key, None, &first).await;
        println!("> {name} claimed");
        let paid = save(&first, fence, "charge", "\"ch_1\"");
        let version = store(&files, &key, Some(fence), &paid).await;
        println!("> {name} paid");
        store(&files, &key, Some(version), &complete(&paid, fence)).await;
        println!("> {name} answered");
    }
}

/// Builds what is preloaded.
fn library(directory: &Path) -> PathBuf {
    let library = directory.join("power.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sqlite/power.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).output();
    let built = built.expect("a C compiler: install gcc");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    library
}

/// One call of the process under test.
struct Note {
    kind: u8,
    path: PathBuf,
    offset: usize,
    before: usize,
    was: Vec<u8>,
    is: Vec<u8>,
}

struct Notes<'a>(&'a [u8]);

impl Notes<'_> {
    fn bytes(&mut self, length: usize) -> Option<Vec<u8>> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes.to_vec())
    }

    fn number<const N: usize>(&mut self) -> Option<usize> {
        let bytes = self.bytes(N)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn piece(&mut self) -> Option<Vec<u8>> {
        let length = self.number::<4>()?;
        self.bytes(length)
    }
}

impl Iterator for Notes<'_> {
    type Item = Note;

    /// The last one may be cut short: the process was killed there.
    fn next(&mut self) -> Option<Note> {
        let kind = self.bytes(1)?[0];
        let path = PathBuf::from(String::from_utf8(self.piece()?).unwrap());
        let (offset, before) = (self.number::<8>()?, self.number::<8>()?);
        Some(Note { kind, path, offset, before, was: self.piece()?, is: self.piece()? })
    }
}

/// Takes away, by lot, what was not synced.
fn lose_power(notes: &Path, random: &mut Random) {
    let bytes = fs::read(notes).unwrap();
    let mut open: HashMap<PathBuf, Vec<Note>> = HashMap::new();
    for note in Notes(&bytes) {
        match note.kind {
            b'S' | b'U' => drop(open.remove(&note.path)),
            b'R' => {
                let moved = open.remove(&note.path).unwrap_or_default();
                open.insert(PathBuf::from(String::from_utf8(note.is).unwrap()), moved);
            }
            _ => open.entry(note.path.clone()).or_default().push(note),
        }
    }
    // Sorted, so that a seed says all.
    let mut open: Vec<_> = open.into_iter().filter(|(path, _)| path.exists()).collect();
    open.sort_by(|one, other| one.0.cmp(&other.0));
    for (path, notes) in open {
        let mut file = fs::read(&path).unwrap();
        for note in notes.iter().rev() {
            take_back(&mut file, note);
        }
        // All of it, none, or some.
        let chance = [0, 50, 100][random.next(3)];
        for note in &notes {
            keep_some(&mut file, note, chance, random);
        }
        fs::write(&path, file).unwrap();
    }
}

/// Power comes back with another boot: what processes noted of theirs says so.
fn start_the_machine_again(home: &Path) {
    for entry in fs::read_dir(home).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().unwrap().contains(".owner-") {
            let mut bytes = fs::read(&path).unwrap();
            if let Some(boot) = bytes.get_mut(16..52) {
                boot.copy_from_slice(b"00000000-0000-4000-8000-000000000000");
            }
            fs::write(&path, bytes).unwrap();
        }
    }
}

fn take_back(file: &mut Vec<u8>, note: &Note) {
    if file.len() < note.offset + note.was.len() {
        file.resize(note.offset + note.was.len(), 0);
    }
    file[note.offset..note.offset + note.was.len()].copy_from_slice(&note.was);
    file.resize(note.before, 0);
}

fn keep_some(file: &mut Vec<u8>, note: &Note, chance: usize, random: &mut Random) {
    if note.kind == b'T' {
        if random.next(100) < chance {
            file.resize(note.offset, 0);
        }
        return;
    }
    let mut at = 0;
    while at < note.is.len() {
        let end = ((note.offset + at) / SECTOR + 1) * SECTOR - note.offset;
        let end = end.min(note.is.len());
        if random.next(100) < chance {
            let (from, to) = (note.offset + at, note.offset + end);
            file.resize(file.len().max(to), 0);
            file[from..to].copy_from_slice(&note.is[at..end]);
        }
        at = end;
    }
}

/// Runs the process until it has acknowledged so much, and kills it; what it had
/// acknowledged by then.
fn run_and_kill(library: &Path, path: &Path, notes: &Path, acknowledged: usize) -> Vec<String> {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "power::a_process_without_power", "--nocapture", "--ignored"])
        .env(PATH, path)
        .env("LD_PRELOAD", library)
        .env("POWER_FILES", path)
        .env("POWER_NOTES", notes)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut said = lines.filter_map(|line| line.split_once("> ").map(|(_, said)| said.to_owned()));
    let mut all: Vec<_> = said.by_ref().take(acknowledged).collect();
    process.kill().unwrap();
    // Said before it died.
    all.extend(said);
    process.wait().unwrap();
    all
}

async fn assert_kept(store: &SqliteStore, acknowledged: &[String], seed: u64) {
    for line in acknowledged {
        let (name, what) = line.split_once(' ').unwrap();
        let found = load(store, &key(name)).await;
        let found = found.unwrap_or_else(|| panic!("seed {seed}: {line}, and it is absent"));
        let paid = found.steps_done() == 1;
        let kept = match what {
            "claimed" => true,
            "paid" => paid || found.response().is_some(),
            _ => found.response().is_some(),
        };
        assert!(kept, "seed {seed}: {line}, and this is there: {found:?}");
    }
}

/// `SQLITE_POWER` rounds, 8 by default; `SQLITE_POWER_SEED` says which is the first.
#[tokio::test]
async fn what_was_acknowledged_outlives_a_loss_of_power() {
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let (rounds, first) = (number("SQLITE_POWER").unwrap_or(8), number("SQLITE_POWER_SEED").unwrap_or(1));
    let directory = tempdir().unwrap();
    let library = library(directory.path());
    for seed in first..first + rounds {
        let mut random = Random(seed);
        let home = directory.path().join(seed.to_string());
        fs::create_dir(&home).unwrap();
        let path = home.join("keys.db");
        let mut acknowledged = Vec::new();
        // The second process opens what a loss of power left.
        for run in 0..2 {
            let notes = directory.path().join(format!("{seed}-{run}.notes"));
            // Some long enough for check-points.
            let most = [300, 300, 6000][random.next(3)];
            let until = 20 + random.next(most);
            acknowledged.extend(run_and_kill(&library, &path, &notes, until));
            lose_power(&notes, &mut random);
            start_the_machine_again(&home);
            fs::remove_file(notes).unwrap();
            let store = SqliteStore::open(&path).unwrap_or_else(|error| panic!("seed {seed}, run {run}: {error}"));
            assert_kept(&store, &acknowledged, seed).await;
        }
        fs::remove_dir_all(home).unwrap();
    }
}
