//! Once per period, over any number of processes. It may know `core`, `util`, `store`,
//! `telemetry`, `engine` and `runner`. Start with [`Scheduler`].

pub(crate) mod cursor;
pub(crate) mod directory;
mod job;
mod scheduler;
mod send;
pub(crate) mod state;
pub(crate) mod timing;

#[cfg(test)]
mod tests;

pub use cursor::{End, Ended, Missed, Order};
pub use scheduler::{Schedule, ScheduleError, Scheduler};
pub use send::{SendError, send};
pub use timing::{InvalidTiming, Period, Timing};
