#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::time::Duration;

use super::cursor::{Cursor, End, Missed};
use super::timing::{Period, Timing};
use crate::core::Timestamp;

fn at(text: &str) -> Timestamp {
    let moment: jiff::Timestamp = text.parse().unwrap();
    Timestamp::from_millis(u64::try_from(moment.as_millisecond()).unwrap())
}

fn period(name: &str, begin: &str) -> Period {
    Period { name: name.to_owned(), begin: at(begin) }
}

fn daily() -> Timing {
    Timing::daily("UTC", "02:00").unwrap()
}

/// The periods that follow, each by the one before and by the time at which that begins.
#[track_caller]
fn check(zone: &str, cron: &str, after: &str, expected: &[(&str, &str)]) {
    let timing = Timing::cron(zone, cron).unwrap();
    let mut last: Option<Period> = None;
    for (name, begin) in expected {
        let next = match &last {
            None => timing.next(at(after)),
            Some(last) => timing.following(last),
        };
        assert_eq!(next, Some(period(name, begin)), "{cron} in {zone}");
        if let Some(last) = last {
            assert_eq!(timing.next(last.begin), next, "by time alone");
        }
        last = next;
    }
}

/// The same where a period is named by the moment at which it begins.
#[track_caller]
fn check_moments(zone: &str, cron: &str, after: &str, expected: &[&str]) {
    check(zone, cron, after, &expected.iter().map(|begin| (*begin, *begin)).collect::<Vec<_>>());
}

#[test]
fn a_time_that_the_day_lacks_is_later_by_the_gap() {
    check(
        "Europe/Berlin",
        "30 2 * * *",
        "2026-03-28T12:00:00Z",
        &[("2026-03-29T02:30:00", "2026-03-29T01:30:00Z"), ("2026-03-30T02:30:00", "2026-03-30T00:30:00Z")],
    );
    // Half an hour is left out there.
    check(
        "Australia/Lord_Howe",
        "15 2 * * *",
        "2026-10-03T12:00:00Z",
        &[("2026-10-04T02:15:00", "2026-10-03T15:45:00Z"), ("2026-10-05T02:15:00", "2026-10-04T15:15:00Z")],
    );
    // The gap begins at midnight.
    check(
        "America/Sao_Paulo",
        "0 0 * * *",
        "2018-11-03T12:00:00Z",
        &[("2018-11-04T00:00:00", "2018-11-04T03:00:00Z"), ("2018-11-05T00:00:00", "2018-11-05T02:00:00Z")],
    );
    // Two that would begin together are one.
    check(
        "Europe/Berlin",
        "30 2,3 * * *",
        "2026-03-28T12:00:00Z",
        &[
            ("2026-03-29T02:30:00", "2026-03-29T01:30:00Z"),
            ("2026-03-30T02:30:00", "2026-03-30T00:30:00Z"),
            ("2026-03-30T03:30:00", "2026-03-30T01:30:00Z"),
        ],
    );
}

#[test]
fn a_day_that_the_zone_lacks_has_its_run_with_the_next_day() {
    check(
        "Pacific/Apia",
        "0 12 * * *",
        "2011-12-29T12:00:00Z",
        &[
            ("2011-12-29T12:00:00", "2011-12-29T22:00:00Z"),
            ("2011-12-30T12:00:00", "2011-12-30T22:00:00Z"),
            ("2012-01-01T12:00:00", "2011-12-31T22:00:00Z"),
        ],
    );
}

#[test]
fn a_time_that_the_day_has_twice_is_taken_once() {
    check(
        "Europe/Berlin",
        "30 2 * * *",
        "2026-10-24T12:00:00Z",
        &[("2026-10-25T02:30:00", "2026-10-25T00:30:00Z"), ("2026-10-26T02:30:00", "2026-10-26T01:30:00Z")],
    );
}

#[test]
fn what_goes_through_the_hours_goes_by_the_time_that_passes() {
    check_moments(
        "Europe/Berlin",
        "*/30 * * * *",
        "2026-10-24T23:30:00Z",
        &[
            "2026-10-25T00:00:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:30:00Z",
            "2026-10-25T02:00:00Z",
        ],
    );
    check_moments(
        "Europe/Berlin",
        "*/30 * * * *",
        "2026-03-29T00:00:00Z",
        &["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z"],
    );
    check_moments(
        "Australia/Lord_Howe",
        "*/20 * * * *",
        "2026-10-03T15:00:00Z",
        &["2026-10-03T15:10:00Z", "2026-10-03T15:40:00Z", "2026-10-03T16:00:00Z"],
    );
    // The clock goes from 02:00 to 03:00, an hour that is none of the fourth ones.
    check_moments(
        "Europe/Berlin",
        "0 */4 * * *",
        "2026-03-28T20:00:00Z",
        &["2026-03-28T23:00:00Z", "2026-03-29T02:00:00Z", "2026-03-29T06:00:00Z"],
    );
}

#[test]
fn months_have_their_own_ends() {
    check(
        "UTC",
        "0 0 31 * *",
        "2026-01-01T00:00:00Z",
        &[("2026-01-31T00:00:00", "2026-01-31T00:00:00Z"), ("2026-03-31T00:00:00", "2026-03-31T00:00:00Z")],
    );
    check(
        "UTC",
        "0 0 L * *",
        "2026-02-01T00:00:00Z",
        &[("2026-02-28T00:00:00", "2026-02-28T00:00:00Z"), ("2026-03-31T00:00:00", "2026-03-31T00:00:00Z")],
    );
    // The year 2100 has no leap day.
    check(
        "UTC",
        "0 0 29 2 *",
        "2094-01-01T00:00:00Z",
        &[("2096-02-29T00:00:00", "2096-02-29T00:00:00Z"), ("2104-02-29T00:00:00", "2104-02-29T00:00:00Z")],
    );
}

#[test]
fn even_distances_are_counted_from_the_epoch() {
    let timing = Timing::every(Duration::from_millis(90_500)).unwrap();
    let first = timing.next(at("1970-01-01T00:00:00Z")).unwrap();
    assert_eq!(first, period("1970-01-01T00:01:30.5Z", "1970-01-01T00:01:30.5Z"));
    assert_eq!(timing.following(&first).unwrap().begin, at("1970-01-01T00:03:01Z"));
    assert_eq!(timing.next(Timestamp::from_millis(u64::MAX)), None);
}

#[test]
fn new_rules_of_a_zone_bring_no_time_of_a_day_twice() {
    // It ran at two o'clock while the zone was an hour ahead of what it is since.
    let ran = period("2026-06-01T02:00:00", "2026-06-01T01:00:00Z");
    assert_eq!(daily().following(&ran), Some(period("2026-06-02T02:00:00", "2026-06-02T02:00:00Z")));
}

#[test]
fn nonsense_is_refused_with_what_to_write() {
    let wrong = |zone, cron| Timing::cron(zone, cron).unwrap_err().to_string();
    assert_eq!(wrong("Mars/Base", "0 2 * * *"), "`Mars/Base` is no time zone; take a name as Europe/Zurich or UTC");
    assert!(wrong("UTC", "0 2 * *").contains("has 4 fields; write five"));
    assert!(wrong("UTC", "0 2 * * * *").contains("has 6 fields; write five"));
    assert!(wrong("UTC", "").contains("has 0 fields; write five"));
    assert!(wrong("UTC", "0 2 30 2 *").contains("never comes"));
    assert!(wrong("UTC", "61 2 * * *").contains("61 2 * * *\n^"), "it points at the field");
    for time in ["2:30", "24:00", "02:60", "+2:30", "0230", "02:30:00", ""] {
        assert!(Timing::daily("UTC", time).unwrap_err().to_string().contains("write it as 02:30"));
    }
    assert!(Timing::every(Duration::from_millis(999)).is_err());
    assert!(Timing::every(Duration::from_secs(367 * 86_400)).is_err());
}

fn week_away() -> (Cursor, Timestamp) {
    (Cursor::new(&daily(), Missed::Newest(1), at("2026-06-01T03:00:00Z")), at("2026-06-08T03:00:00Z"))
}

/// The periods that are opened one after the other, and how many were passed over.
fn opened(missed: Missed) -> (Vec<String>, Vec<End>) {
    let (mut cursor, now) = week_away();
    let mut opened = Vec::new();
    while cursor.advance(&daily(), missed, now) {
        let Some(open) = cursor.running().cloned() else { continue };
        assert!(!cursor.advance(&daily(), missed, now), "one after the other");
        opened.push(open.period.name.clone());
        cursor.end(open.period, now, End::Complete);
    }
    (opened, cursor.ended.iter().map(|ended| ended.end).filter(|end| *end != End::Complete).collect())
}

#[test]
fn a_week_that_was_missed_is_caught_up_with_as_the_policy_says() {
    let all: Vec<_> = (2..=8).map(|day| format!("2026-06-0{day}T02:00:00")).collect();
    assert_eq!(opened(Missed::Newest(10)), (all.clone(), vec![]));
    assert_eq!(opened(Missed::Newest(3)), (all[4..].to_vec(), vec![End::PassedOver(4)]));
    assert_eq!(opened(Missed::Newest(1)), (all[6..].to_vec(), vec![End::PassedOver(6)]));
    assert_eq!(opened(Missed::PassOver), (vec![], vec![End::PassedOver(7)]));
}

/// What is opened after so many seconds away, one after the other, and how many are passed over.
fn opened_after(seconds: u64, timing: &Timing, missed: Missed) -> (Vec<Timestamp>, u64) {
    let start = at("2026-06-01T03:00:00Z");
    let (mut cursor, now) = (Cursor::new(timing, missed, start), start.after(Duration::from_secs(seconds)));
    let mut opened = Vec::new();
    while cursor.advance(timing, missed, now) {
        if let Some(open) = cursor.running().cloned() {
            opened.push(open.period.begin);
            cursor.end(open.period, now, End::Complete);
        }
    }
    let passed_over = |end| if let End::PassedOver(periods) = end { periods } else { 0 };
    (opened, cursor.ended.iter().map(|ended| passed_over(ended.end)).sum())
}

#[test]
fn however_many_were_missed_the_newest_run() {
    let (second, week) = (Timing::every(Duration::from_secs(1)).unwrap(), 604_800);
    // More than a million are not looked at.
    let (opened, passed_over) = opened_after(3 * week, &second, Missed::Newest(2));
    assert_eq!(opened, [at("2026-06-22T02:59:59Z"), at("2026-06-22T03:00:00Z")]);
    assert!((999_990..=1_000_000).contains(&passed_over), "{passed_over}");
    // What is caught up with is not counted each time.
    let minute = Timing::cron("Europe/Zurich", "* 0-23 * * *").unwrap();
    let (opened, passed_over) = opened_after(week, &minute, Missed::Newest(20_000));
    assert_eq!((opened.len(), passed_over, opened[0]), (10_080, 0, at("2026-06-01T03:01:00Z")));
    let (opened, passed_over) = opened_after(week, &minute, Missed::Newest(10_079));
    assert_eq!((opened.len(), passed_over, opened[0]), (10_079, 1, at("2026-06-01T03:02:00Z")));
}

#[test]
fn what_has_just_begun_was_not_missed() {
    let (mut cursor, _) = week_away();
    assert!(cursor.advance(&daily(), Missed::PassOver, at("2026-06-08T02:00:59Z")));
    assert_eq!(cursor.running().unwrap().period.name, "2026-06-08T02:00:00");
    assert_eq!(cursor.ended.front().unwrap().end, End::PassedOver(6));
}

#[test]
fn a_run_in_doubt_keeps_no_later_period_waiting() {
    let (mut cursor, now) = week_away();
    assert!(cursor.advance(&daily(), Missed::Newest(10), now));
    cursor.open[0].in_doubt = true;
    assert!(cursor.advance(&daily(), Missed::Newest(10), now));
    assert_eq!(cursor.running().unwrap().period.name, "2026-06-03T02:00:00");
    assert_eq!(cursor.open.len(), 2);
}

#[test]
fn it_comes_back_as_it_was_kept() {
    let (mut cursor, now) = week_away();
    assert!(cursor.advance(&daily(), Missed::Newest(2), now));
    cursor.end(period("a", "2026-06-02T02:00:00Z"), now, End::Failed);
    cursor.end(period("b", "2026-06-02T02:00:00Z"), now, End::Complete);
    cursor.open[0].failures = 3;
    assert_eq!(Cursor::of_content(&cursor.to_content()), Some(cursor));
}
