//! Once per period, over any number of processes. It may know `core`, `util`, `store`,
//! `telemetry`, `engine` and `runner`. Start with [`Scheduler`].

mod cursor;
mod job;
mod scheduler;
mod timing;

#[cfg(test)]
mod tests;

pub use cursor::{End, Ended, Missed};
pub use scheduler::{Schedule, ScheduleError, Scheduler};
pub use timing::{InvalidTiming, Period, Timing};
