//! The store's time: one line for all processes of a machine, which never goes
//! back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::core::Timestamp;
use crate::util::clock::Clock;

const DAY: u64 = 24 * 3600 * 1000;

/// Tells the time.
#[derive(Debug)]
pub(super) enum Timeline {
    /// A clock for tests.
    Given(Arc<dyn Clock>),
    /// The time since the machine started, from `base` on. It counts while the
    /// machine is suspended, and it can't be set.
    Boot { base: i64 },
    /// Where there is no such clock: the system's, less its steps back.
    Wall { latest: AtomicU64 },
}

impl Timeline {
    pub(super) fn now(&self) -> Timestamp {
        match self {
            Self::Given(clock) => clock.now(),
            Self::Boot { base } => {
                let since = boot_clock().unwrap_or_default();
                Timestamp::from_millis(since.saturating_add_signed(*base))
            }
            Self::Wall { latest } => {
                let now = wall();
                Timestamp::from_millis(latest.fetch_max(now, Ordering::SeqCst).max(now))
            }
        }
    }
}

/// What the database says of the time.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredTime<'m> {
    /// The boot in which `base` is the time at which the machine started.
    pub(super) boot: &'m str,
    pub(super) base: i64,
    /// The latest time that was given; 0 if none was.
    pub(super) seen: u64,
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks<'m> {
    /// Drawn by the kernel as it started; empty if it does not say.
    pub(super) boot: &'m str,
    pub(super) since_boot: u64,
    pub(super) wall: u64,
}

/// Where the line goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// The time at which the machine started.
    pub(super) base: i64,
    /// What an operator should know.
    pub(super) warning: Option<String>,
}

/// Goes on from what is kept. Within a boot the line is given. In another boot only
/// the wall clock knows how long the machine was down, and is not believed blindly:
/// a response that is forgotten too early is a second charge.
pub(super) fn start(kept: StoredTime<'_>, clocks: Clocks<'_>) -> Start {
    let base = |now: u64| now.cast_signed().saturating_sub_unsigned(clocks.since_boot);
    let going_on = base(kept.seen);
    if kept.boot == clocks.boot && !clocks.boot.is_empty() {
        // Not before a time that was given, should a snapshot of a machine go on.
        return Start { base: kept.base.max(going_on), warning: None };
    }
    if kept.seen == 0 {
        return Start { base: base(clocks.wall), warning: None };
    }
    if clocks.wall < kept.seen {
        let warning = format!(
            "the system's clock is {} s behind the store's, which goes on from the latest time that it has given; \
             set the clock, or reset the store's latest time if that is the wrong one",
            (kept.seen - clocks.wall) / 1000
        );
        return Start { base: going_on, warning: Some(warning).filter(|_| kept.seen - clocks.wall > 1000) };
    }
    let gap = clocks.wall - kept.seen;
    if gap <= DAY {
        return Start { base: base(clocks.wall), warning: None };
    }
    let warning = format!(
        "the system's clock went on by {} h while the store was closed over a restart of the machine; a day of it \
         counts, and what the store keeps expires that much later",
        gap / 3_600_000
    );
    Start { base: base(kept.seen + DAY), warning: Some(warning) }
}

/// The system's time. Before 1970, time starts in 1970.
pub(super) fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since the machine started.
#[cfg(target_os = "linux")]
pub(super) fn boot_clock() -> Option<u64> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let millis = now.tv_sec.checked_mul(1000)?.checked_add(now.tv_nsec / 1_000_000)?;
    u64::try_from(millis).ok()
}

#[cfg(not(target_os = "linux"))]
pub(super) const fn boot_clock() -> Option<u64> {
    None
}

/// Which boot this is; empty where the system does not say.
pub(super) fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id = id.trim();
    let plain = id.len() == 36 && id.is_ascii() && boot_clock().is_some();
    if plain { id.to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn at(kept: StoredTime<'_>, clocks: Clocks<'_>) -> (u64, bool) {
        let start = start(kept, clocks);
        (clocks.since_boot.saturating_add_signed(start.base), start.warning.is_some())
    }

    #[test]
    fn within_a_boot_the_wall_clock_has_no_say() {
        let kept = StoredTime { boot: "a", base: NOW.cast_signed(), seen: NOW + 5000 };
        for wall in [0, NOW, NOW + 365 * DAY, u64::MAX] {
            assert_eq!(at(kept, Clocks { boot: "a", since_boot: 7000, wall }), (NOW + 7000, false));
        }
    }

    #[test]
    fn a_new_store_starts_with_the_wall_clock() {
        let kept = StoredTime { boot: "", base: 0, seen: 0 };
        assert_eq!(at(kept, Clocks { boot: "a", since_boot: 7000, wall: NOW }), (NOW, false));
    }

    #[test]
    fn after_a_restart_time_goes_on_and_a_gap_counts_as_a_day() {
        let kept = StoredTime { boot: "a", base: 17, seen: NOW };
        let after = |wall| at(kept, Clocks { boot: "b", since_boot: 10, wall });
        assert_eq!(after(NOW + 60_000), (NOW + 60_000, false));
        assert_eq!(after(NOW + DAY), (NOW + DAY, false));
        assert_eq!(after(4_070_908_800_000), (NOW + DAY, true), "2099");
        assert_eq!(after(0), (NOW, true), "1970");
        assert_eq!(after(NOW - 3_600_000), (NOW, true), "an hour back");
    }

    #[test]
    fn a_machine_that_does_not_say_when_it_started_goes_by_the_wall_clock() {
        let kept = StoredTime { boot: "", base: 17, seen: NOW };
        assert_eq!(at(kept, Clocks { boot: "", since_boot: 0, wall: NOW + 5 }), (NOW + 5, false));
    }

    #[test]
    fn the_time_is_told() {
        let before = wall();
        let boot = Timeline::Boot { base: before.cast_signed() - boot_clock().unwrap_or_default().cast_signed() };
        if boot_clock().is_some() {
            assert!(boot.now() >= Timestamp::from_millis(before));
        }
        let latest = Timeline::Wall { latest: AtomicU64::new(before + DAY) };
        assert_eq!(latest.now(), Timestamp::from_millis(before + DAY));
    }
}
