//! What clients saw, and the invariants it is held against.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Mutex;

use killbox::Answer;
use serde_json::Value;

use crate::cell::{Cell, Fault, Mode};

/// An answer, or none, by what it means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reply {
    /// 201, and not a replay: an attempt ran.
    Ran,
    Replay,
    /// 202: it will be run.
    Accepted,
    /// 409 in-progress.
    Busy,
    /// 500 outcome-unknown.
    Unknown,
    /// 503, from the layer or the handler.
    Unavailable,
    /// 422 key-reused.
    Mismatch,
    /// No answer came.
    Nothing,
    /// Anything else.
    Other(String),
}

impl Reply {
    pub fn of(answer: &Answer) -> Self {
        let kind =
            || answer.json()["type"].as_str().unwrap_or_default().rsplit(':').next().unwrap_or_default().to_owned();
        match answer.status {
            201 if answer.is_replay() => Self::Replay,
            201 => Self::Ran,
            202 => Self::Accepted,
            503 => Self::Unavailable,
            409 if kind() == "in-progress" => Self::Busy,
            500 if kind() == "outcome-unknown" => Self::Unknown,
            422 if kind() == "key-reused" => Self::Mismatch,
            status => Self::Other(format!("{status} {}", String::from_utf8_lossy(&answer.body))),
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ran => "runs",
            Self::Replay => "replay",
            Self::Accepted => "202",
            Self::Busy => "409",
            Self::Unknown => "`outcome-unknown`",
            Self::Unavailable => "503",
            Self::Mismatch => "422",
            Self::Nothing => "no answer",
            Self::Other(what) => what,
        })
    }
}

/// Every answer, by key, in the order they came.
#[derive(Default)]
pub struct Seen {
    /// A key is in it from when it is first asked for.
    answers: Mutex<HashMap<String, Vec<Answer>>>,
}

impl Seen {
    /// Takes note that it is asked for.
    pub fn begin(&self, key: &str) {
        self.answers.lock().unwrap().entry(key.to_owned()).or_default();
    }

    /// Takes note of what came.
    pub fn note(&self, key: &str, answer: std::io::Result<Answer>) -> Reply {
        let Ok(answer) = answer else { return Reply::Nothing };
        let reply = Reply::of(&answer);
        self.answers.lock().unwrap().entry(key.to_owned()).or_default().push(answer);
        reply
    }

    /// Every key that was asked for.
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<_> = self.answers.lock().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    }

    /// Which attempt gave the answer that is replayed.
    pub fn attempt_replayed(&self, key: &str) -> Option<u32> {
        let answers = self.answers.lock().unwrap();
        answers.get(key)?.iter().find(|answer| answer.is_replay())?.header("x-attempt")?.parse().ok()
    }

    /// How often each kind of answer came.
    pub fn counts(&self) -> HashMap<Reply, usize> {
        let mut counts = HashMap::new();
        for answer in self.answers.lock().unwrap().values().flatten() {
            *counts.entry(Reply::of(answer)).or_default() += 1;
        }
        counts
    }

    /// Which invariants do not hold: each with what was seen instead.
    pub fn violations(&self, cell: &Cell, charged: &[Value]) -> Vec<String> {
        let answers = self.answers.lock().unwrap();
        // What a store is declared to forget may be run again; only a gateway
        // that is sent the same key charges once all the same.
        let forgets = cell.residual().is_some() && cell.mode != Mode::Resumable;
        // Its rows are forgotten together with what is remembered of them.
        let loses_rows = forgets && cell.mode == Mode::Transactional;
        let mut broken = Vec::new();
        for (key, answers) in answers.iter() {
            let charges: Vec<_> = charged.iter().filter(|charge| charge["order"] == key.as_str()).collect();
            let paid: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
            if charges.len() > 1 && !forgets {
                broken.push(format!("at most one charge per key: {key} was charged {charges:?}"));
            }
            let downstream: HashSet<_> = charges.iter().map(|charge| charge["key"].to_string()).collect();
            if downstream.len() > 1 && cell.mode == Mode::Resumable {
                broken.push(format!("one downstream key per step: {key} went out as {downstream:?}"));
            }
            // The answer says which attempt gave it. What was forgotten may be
            // done by another one; so may what a client was told while it could
            // not be stored. What is replayed is stored.
            let first = paid.iter().find(|answer| answer.is_replay()).or(paid.first());
            let is_same = |answer: &Answer| {
                let is_stored = answer.is_replay() || matches!(cell.fault, Fault::Blow(_));
                first.is_none_or(|first| match cell.residual() {
                    Some(_) => forgets || answer.body == first.body,
                    None if is_stored => answer.essence() == first.essence(),
                    None => answer.body == first.body,
                })
            };
            if !paid.iter().all(|answer| is_same(answer)) {
                broken.push(format!("every answer to one key is the same: {key} got {paid:#?}"));
            }
            let is_charged = |answer: &Answer| charges.iter().any(|charge| charge["id"] == answer.json()["charge_id"]);
            if !loses_rows && !paid.iter().all(|answer| is_charged(answer)) {
                broken.push(format!("no success without a charge: {key} got {paid:#?}"));
            }
            let replays = answers.iter().skip_while(|answer| !answer.is_replay());
            if !forgets && replays.clone().any(|answer| Reply::of(answer) == Reply::Unknown) {
                broken.push(format!("once replayed, never unknown: {key} got {answers:#?}"));
            }
            let others = answers.iter().map(Reply::of).filter(|reply| matches!(reply, Reply::Other(_)));
            broken.extend(others.map(|reply| format!("only the answers that are documented: {key} got {reply}")));
        }
        if charged.iter().any(|charge| charge["amount"] != 1999) {
            broken.push(format!("another body never runs: {charged:#?}"));
        }
        let is_answered = |key: &str| answers.get(key).is_some_and(|answers| !answers.is_empty());
        if !charged.iter().all(|charge| charge["order"].as_str().is_some_and(is_answered)) {
            broken.push(format!("no charge without an answer: {charged:#?}, answered {:?}", answers.keys()));
        }
        broken
    }

    /// Which orders have another number of receipts than answers that say so:
    /// what commits with the answer is there if the answer is.
    pub fn unpaired(&self, cell: &Cell, receipts: &[Value]) -> Option<String> {
        if cell.residual().is_some() {
            return None;
        }
        let answers = self.answers.lock().unwrap();
        let unpaired = |(key, answers): &(&String, &Vec<Answer>)| {
            let times = receipts.iter().filter(|order| **order == key.as_str()).count();
            times > 1 || times != usize::from(answers.iter().any(|answer| answer.status == 201))
        };
        let found: Vec<_> = answers.iter().filter(unpaired).collect();
        (!found.is_empty()).then(|| format!("a receipt is there if its response is: {found:#?}, receipts {receipts:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{Blow, Finisher, Moment, Store};
    use killbox::World;

    const CELL: Cell = Cell {
        finisher: Finisher::Client,
        store: Store::Redis,
        fault: Fault::Blow(Blow::Kill),
        moment: Moment::AfterCharge,
        mode: Mode::Resumable,
    };

    fn paid(charge: &str, replay: bool) -> Answer {
        let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        headers.extend(replay.then(|| ("idempotent-replayed".to_owned(), "true".to_owned())));
        Answer { status: 201, headers, body: format!(r#"{{"charge_id":"{charge}"}}"#).into_bytes() }
    }

    fn unknown() -> Answer {
        Answer { status: 500, headers: Vec::new(), body: br#"{"type":"urn:x:outcome-unknown"}"#.to_vec() }
    }

    /// The names of what is broken, where the gateway made these charges: id,
    /// downstream key, amount.
    fn broken(cell: Cell, answers: Vec<Answer>, charges: &[(&str, &str, u32)]) -> Vec<String> {
        let world = World::new(&[]);
        let line = |(id, key, amount): &(&str, &str, u32)| {
            format!("{{\"charge\":{{\"id\":\"{id}\",\"key\":\"{key}\",\"order\":\"K\",\"amount\":{amount}}}}}\n")
        };
        std::fs::write(world.gateway_log(), charges.iter().map(line).collect::<String>()).unwrap();
        let seen = Seen::default();
        seen.begin("K");
        for answer in answers {
            seen.note("K", Ok(answer));
        }
        let broken = seen.violations(&cell, &world.charged());
        broken.iter().map(|text| text.split(':').next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn what_is_as_promised_breaks_nothing() {
        let one = [("ch_1", "k", 1999)];
        assert_eq!(broken(CELL, vec![paid("ch_1", false), paid("ch_1", true)], &one), [""; 0]);
        let once = Cell { mode: Mode::AtMostOnce, ..CELL };
        assert_eq!(broken(once, vec![unknown(), unknown()], &one), [""; 0]);
        assert_eq!(broken(once, vec![unknown()], &[]), [""; 0]);
    }

    #[test]
    fn each_broken_promise_is_named() {
        let two = [("ch_1", "k", 1999), ("ch_2", "k", 1999)];
        assert_eq!(broken(CELL, vec![paid("ch_1", false)], &two), ["at most one charge per key"]);
        let keys = [("ch_1", "k", 1999), ("ch_2", "other", 1999)];
        assert!(broken(CELL, vec![paid("ch_1", false)], &keys).contains(&"one downstream key per step".to_owned()));
        let answers = vec![paid("ch_1", false), paid("ch_2", true)];
        assert!(broken(CELL, answers, &two).contains(&"every answer to one key is the same".to_owned()));
        assert_eq!(broken(CELL, vec![paid("ch_1", false)], &[]), ["no success without a charge"]);
        assert_eq!(broken(CELL, Vec::new(), &two[..1]), ["no charge without an answer"]);
        let answers = vec![paid("ch_1", true), unknown()];
        assert_eq!(broken(CELL, answers, &two[..1]), ["once replayed, never unknown"]);
        assert_eq!(broken(CELL, vec![paid("ch_1", true)], &[("ch_1", "k", 4999)]), ["another body never runs"]);
    }

    #[test]
    fn what_a_store_is_declared_to_forget_may_run_again_and_nothing_else_may() {
        let forgetful = Cell { store: Store::Memory, mode: Mode::AtMostOnce, ..CELL };
        let answers = vec![paid("ch_1", false), paid("ch_2", false)];
        let two = [("ch_1", "k", 1999), ("ch_2", "other", 1999)];
        assert_eq!(broken(forgetful, answers.clone(), &two), [""; 0]);
        assert!(!broken(Cell { mode: Mode::Resumable, ..forgetful }, answers, &two).is_empty());
    }
}
