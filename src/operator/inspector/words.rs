//! Times, counts and events as an operator reads them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

use crate::core::{HistoryEvent, Timestamp};
use crate::operator::shown::OperationState;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// "3 h 12 min": the two largest parts of it.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => two(seconds, MINUTE, "min", 1, "s"),
        HOUR..DAY => two(seconds, HOUR, "h", MINUTE, "min"),
        _ => two(seconds, DAY, "d", HOUR, "h"),
    }
}

fn two(seconds: u64, large: u64, large_name: &str, small: u64, small_name: &str) -> String {
    let rest = seconds % large / small;
    let first = format!("{} {large_name}", seconds / large);
    if rest == 0 { first } else { format!("{first} {rest} {small_name}") }
}

/// "29 Nov 2026 07:41:48 UTC".
pub(super) fn time(at: Timestamp) -> String {
    // The last second of the year 9999: more a date can't say.
    const LAST: u64 = 253_402_300_799;
    let at = UNIX_EPOCH + Duration::from_secs((at.as_millis() / 1000).min(LAST));
    let whole = HttpDate::from(at).to_string();
    // Without the day of the week, and without "GMT".
    format!("{} UTC", whole.get(5..25).unwrap_or(&whole))
}

/// A time as a form has it, "2026-11-29T22:00", in UTC: seconds are cut.
pub(super) fn form_time(at: Timestamp) -> String {
    let text = time(at);
    let (date, clock) = text.split_at(11);
    let [day, month, year] = date.split_whitespace().collect::<Vec<_>>().try_into().unwrap_or_default();
    let month = MONTHS.iter().position(|name| *name == month).map_or(0, |month| month + 1);
    format!("{year}-{month:02}-{day}T{}", clock.get(1..6).unwrap_or_default())
}

/// A time as a form has it, "2026-11-29T22:00", in UTC. `None` if there is no such day.
pub(super) fn parse_time(text: &str) -> Option<Timestamp> {
    let (date, clock) = text.split_once('T')?;
    let [year, month, day] = date.split('-').collect::<Vec<_>>().try_into().ok()?;
    let month = MONTHS.get(month.parse::<usize>().ok()?.checked_sub(1)?)?;
    let clock = if clock.len() == 5 { format!("{clock}:00") } else { clock.to_owned() };
    // A date of HTTP has the day of the week: the parser takes the right one alone, and none
    // for a day that does not exist.
    let mut dates = DAYS.iter().map(|name| format!("{name}, {day} {month} {year} {clock} GMT"));
    let parsed = dates.find_map(|date| date.parse::<HttpDate>().ok())?;
    let since = SystemTime::from(parsed).duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp::from_millis(u64::try_from(since.as_millis()).ok()?))
}

/// "12,345", or "10,000+" where more were not counted.
pub(super) fn count(count: usize, capped: bool) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if capped { text + "+" } else { text }
}

/// "1,204 bytes".
pub(super) fn bytes(bytes: usize) -> String {
    if bytes == 1 { "1 byte".to_owned() } else { format!("{} bytes", count(bytes, false)) }
}

/// What happened, as a sentence begins.
pub(super) const fn event(event: HistoryEvent) -> &'static str {
    match event {
        HistoryEvent::Accepted => "Accepted for later",
        HistoryEvent::Claimed => "First attempt began",
        HistoryEvent::Resumed => "Resumed by another attempt",
        HistoryEvent::StepBegun => "Step begun",
        HistoryEvent::StepSaved => "Step done",
        HistoryEvent::StepFailed => "Step failed for good",
        HistoryEvent::Lapsed => "Lease ran out",
        HistoryEvent::Released => "Attempt ended without a response",
        HistoryEvent::Parked => "Parked",
        HistoryEvent::Decided => "Decided",
        HistoryEvent::Completed => "Response stored",
        HistoryEvent::CallbackTried => "Callback tried",
        HistoryEvent::CallbackDelivered => "Callback delivered",
        HistoryEvent::Undoing => "Undoing began",
    }
}

/// A state, and what it means.
pub(super) const fn state(state: OperationState) -> (&'static str, &'static str) {
    match state {
        OperationState::Running => ("running", "An attempt holds it."),
        OperationState::Waiting => ("waiting", "It has no holder, and goes on when it is due or its client retries."),
        OperationState::Due => ("due", "It has no holder, and a completer should take it."),
        OperationState::OutcomeUnknown => {
            ("outcome unknown", "Its handler may have done its work or not. It does not start again until you decide.")
        }
        OperationState::Parked => ("parked", "It does not go on until you decide."),
        OperationState::CallbackPending => {
            ("callback pending", "It has its response; its callback is still to be made.")
        }
        OperationState::Complete => ("complete", "It has its response, which retries get."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_parts() {
        let text = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!(duration(Duration::from_millis(20)), "20 ms");
        assert_eq!(text(59), "59 s");
        assert_eq!(text(60), "1 min");
        assert_eq!(text(61), "1 min 1 s");
        assert_eq!(text(3 * 3600 + 12 * 60 + 9), "3 h 12 min");
        assert_eq!(text(86_400 + 3599), "1 d");
        assert_eq!(text(2 * 86_400 + 3600), "2 d 1 h");
    }

    #[test]
    fn times_are_read_as_forms_have_them() {
        let read = |text| parse_time(text).map(time);
        assert_eq!(read("2026-11-29T22:00").as_deref(), Some("29 Nov 2026 22:00:00 UTC"));
        assert_eq!(parse_time("2026-11-29T22:00").map(form_time).as_deref(), Some("2026-11-29T22:00"));
        assert_eq!(read("2028-02-29T23:59:58").as_deref(), Some("29 Feb 2028 23:59:58 UTC"));
        for text in [
            "",
            "2026-11-29",
            "2026-02-31T10:00",
            "2026-13-01T10:00",
            "2026-00-01T10:00",
            "2026-11-29T25:00",
            "1969-01-01T00:00",
            "x-y-zT10:00",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn times_and_counts() {
        assert_eq!(time(Timestamp::from_millis(0)), "01 Jan 1970 00:00:00 UTC");
        assert_eq!(time(Timestamp::from_millis(u64::MAX)), "31 Dec 9999 23:59:59 UTC");
        assert_eq!(count(999, false), "999");
        assert_eq!(count(10_000, true), "10,000+");
        assert_eq!(count(1_234_567, false), "1,234,567");
        assert_eq!(bytes(1), "1 byte");
    }
}
