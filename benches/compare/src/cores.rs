//! Which process has which core.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Failure;

/// The service has a core of its own where there are two, the load and the stores have one
/// each where there are more.
#[derive(Debug)]
pub(crate) struct Cores {
    service: Vec<usize>,
    load: Vec<usize>,
    stores: Vec<usize>,
}

impl Cores {
    pub(crate) fn of_this_machine() -> Result<Self, Failure> {
        let allowed = sched_getaffinity(None)?;
        let all: Vec<_> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
        let (service, load, stores) = match all.as_slice() {
            [] | [_] => (all.clone(), all.clone(), all),
            [service, shared] => (vec![*service], vec![*shared], vec![*shared]),
            [service, load, stores @ ..] => (vec![*service], vec![*load], stores.to_vec()),
        };
        Ok(Self { service, load, stores })
    }

    /// Threads and processes that `start` starts stay on the service's core.
    pub(crate) fn for_service<T>(&self, start: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        self.on(&self.service, start)
    }

    /// The same, for the servers that have the records.
    pub(crate) fn for_stores<T>(&self, start: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        self.on(&self.stores, start)
    }

    /// This thread sends the requests from now on.
    pub(crate) fn for_load(&self) -> Result<(), Failure> {
        Ok(sched_setaffinity(None, &set(&self.load))?)
    }

    fn on<T>(&self, cores: &[usize], start: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        let before = sched_getaffinity(None)?;
        sched_setaffinity(None, &set(cores))?;
        let started = start();
        sched_setaffinity(None, &before)?;
        started
    }

    pub(crate) fn describe(&self) -> String {
        let Self { service, load, stores } = self;
        format!("service on core {service:?}, load on {load:?}, stores' servers on {stores:?}")
    }
}

fn set(cores: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    set
}
