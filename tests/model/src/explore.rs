//! Breadth first, so that the first broken promise has the shortest trace.

use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, Instant};

use crate::branch::Branches;
use crate::promises;
use crate::state::State;

/// What was explored.
pub(crate) struct Report {
    pub(crate) states: usize,
    pub(crate) transitions: usize,
    pub(crate) depth: usize,
    pub(crate) branches: Branches,
    /// The most calls of the gateway: what one that ignores keys would charge.
    pub(crate) calls: u8,
    pub(crate) took: Duration,
    pub(crate) broken: Option<Trace>,
}

/// A broken promise, and the shortest way there.
pub(crate) struct Trace {
    pub(crate) promise: String,
    pub(crate) steps: Vec<String>,
}

/// Where a state was first reached from, and by which of that one's actions.
#[derive(Clone, Copy)]
struct Origin {
    parent: u32,
    action: u16,
}

struct Search {
    root: State,
    origins: Vec<Origin>,
    known: HashSet<u64>,
    report: Report,
}

pub(crate) fn explore(root: State) -> Report {
    let started = Instant::now();
    let report = Report {
        states: 1,
        transitions: 0,
        depth: 0,
        branches: Branches::default(),
        calls: 0,
        took: Duration::ZERO,
        broken: None,
    };
    let known = HashSet::from([root.canonical()]);
    let mut search = Search { root: root.clone(), origins: vec![Origin { parent: 0, action: 0 }], known, report };
    let mut level = vec![(0, root)];
    while !level.is_empty() && search.report.broken.is_none() {
        level = search.next(level);
        search.report.depth += 1;
    }
    search.report.took = started.elapsed();
    search.report.states = search.origins.len();
    search.report
}

impl Search {
    fn next(&mut self, level: Vec<(u32, State)>) -> Vec<(u32, State)> {
        let mut next = Vec::new();
        for (at, state) in level {
            if state.is_quiet()
                && let Err(promise) = promises::settles(&state)
            {
                self.broken(at, None, promise);
                return Vec::new();
            }
            for (index, action) in state.actions().iter().enumerate() {
                self.report.transitions += 1;
                let origin = Origin { parent: at, action: index as u16 };
                match state.step(action, &mut self.report.branches) {
                    Ok(reached) => next.extend(self.add(reached, origin)),
                    Err(promise) => {
                        self.broken(at, Some(index), promise);
                        return Vec::new();
                    }
                }
            }
        }
        next
    }

    fn add(&mut self, state: State, origin: Origin) -> Option<(u32, State)> {
        if !self.known.insert(state.canonical()) {
            return None;
        }
        let calls = state.world.lives.iter().map(|life| life.calls).max();
        self.report.calls = self.report.calls.max(calls.unwrap_or_default());
        self.origins.push(origin);
        Some((self.origins.len() as u32 - 1, state))
    }

    /// Walks the way again, this time writing it down.
    fn broken(&mut self, at: u32, last: Option<usize>, promise: String) {
        let mut way: Vec<usize> = last.into_iter().collect();
        let mut at = at;
        while at != 0 {
            let origin = self.origins[at as usize];
            way.push(usize::from(origin.action));
            at = origin.parent;
        }
        let mut state = self.root.clone();
        let mut steps = Vec::new();
        for index in way.into_iter().rev() {
            let action = state.actions().swap_remove(index);
            steps.push(state.describe(&action));
            match state.step(&action, &mut Branches::default()) {
                Ok(next) => state = next,
                Err(_) => break,
            }
        }
        steps.push(format!("in the end: {}", state.summary()));
        self.report.broken = Some(Trace { promise, steps });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} states, {} transitions, {} steps deep, {} branches, up to {} calls of the gateway, {:.1} s",
            self.states,
            self.transitions,
            self.depth,
            self.branches.count(),
            self.calls,
            self.took.as_secs_f64()
        )
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "broken: {}", self.promise)?;
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(f, "{:>4}  {step}", index + 1)?;
        }
        Ok(())
    }
}
