//! What maintenance windows cover, and until when.

use std::time::Duration;

use crate::core::window::{Covers, PlannedWindow, Window, WindowState, Work, rest_of};
use crate::core::{Intake, Timestamp};

fn at(second: u64) -> Timestamp {
    Timestamp::from_millis(1000 * second)
}

fn planned(window: Window) -> PlannedWindow {
    PlannedWindow::new("a".to_owned(), None, window)
}

fn window(from: u64, until: u64, lead: u64) -> PlannedWindow {
    planned(Window::new(at(from), at(until), "moves").lead(Duration::from_secs(lead)))
}

#[test]
fn the_lead_lets_what_is_on_record_go_on() {
    let windows = [window(100, 200, 30)];
    let intake = |second| rest_of(&windows, Work::Store, at(second)).map(|rest| rest.intake);
    let seen = [69, 70, 99, 100, 199, 200].map(intake);
    let (lead, closed) = (Some(Intake::OnRecord), Some(Intake::Closed));
    assert_eq!(seen, [None, lead, lead, closed, closed, None]);
    let states = [69, 70, 100, 200].map(|second| windows[0].state(at(second)));
    assert_eq!(states, [WindowState::Planned, WindowState::RefusingNewWork, WindowState::Closed, WindowState::Over]);
}

#[test]
fn a_lead_that_reaches_back_before_the_beginning_of_time_is_cut_off() {
    let windows = [planned(Window::new(at(10), at(20), "moves").lead(Duration::MAX))];
    assert_eq!(rest_of(&windows, Work::Store, at(0)).map(|rest| rest.intake), Some(Intake::OnRecord));
}

#[test]
fn windows_that_overlap_or_touch_end_together() {
    // The third begins when the second ends, the fourth's lead reaches into the third, and the
    // fifth comes later.
    let windows =
        [window(100, 200, 0), window(150, 300, 0), window(300, 400, 0), window(450, 500, 60), window(600, 700, 0)];
    let rest = |second| rest_of(&windows, Work::Store, at(second)).map(|rest| (rest.intake, rest.notice.until));
    assert_eq!(rest(100), Some((Intake::Closed, at(500))));
    assert_eq!(rest(299), Some((Intake::Closed, at(500))));
    assert_eq!(rest(420), Some((Intake::OnRecord, at(500))));
    assert_eq!(rest(500), None);
    // The strictest counts: here one window's lead is in another's time.
    let both = [window(100, 200, 0), window(150, 160, 100)];
    assert_eq!(rest_of(&both, Work::Store, at(120)).map(|rest| rest.intake), Some(Intake::Closed));
}

#[test]
fn a_window_covers_what_it_names_and_no_more() {
    let covers = |covers: Covers, route, scope| {
        let windows = [planned(Window::new(at(100), at(200), "moves").covers(covers))];
        rest_of(&windows, Work::Operation { route, scope }, at(150)).is_some()
    };
    let route = |path: &str, of| covers(Covers::Route(path.to_owned()), of, Some("ann"));
    for path in ["/payments", "/payments/"] {
        assert!(route(path, Some("/payments")) && route(path, Some("/payments/17")));
        assert!(!route(path, Some("/payments-old")) && !route(path, Some("/")) && !route(path, None));
    }
    assert!(route("/", Some("/payments")));
    let scope = |of| covers(Covers::Scope("ann".to_owned()), Some("/payments"), of);
    assert!(scope(Some("ann")) && !scope(Some("ben")) && scope(None), "one that is not known may be of any");
    let some = [planned(Window::new(at(100), at(200), "moves").covers(Covers::Scope("ann".to_owned())))];
    assert_eq!(rest_of(&some, Work::Store, at(150)), None);
}
