//! What was seen, as the table that the README shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::cell::{Blow, Cell, Fault, Finisher, Mode, Moment, Outage, Store};
use crate::seen::Reply;
use crate::trial::Report;

/// All tables.
pub fn markdown(reports: &[Report]) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "A process dies, is paused for longer than its lease, or is asked to end. A retry\nwith the same key gets, \
         one after another:\n"
    );
    blows(reports, Finisher::Client, Moment::ALL, &mut text);
    outages(reports, &mut text);
    let _ = writeln!(
        text,
        "\nThe answer was 202, and nobody asks again. The process whose completer runs it\ndies, is paused, or is \
         asked to end. A completer of another process, or of the next\none, goes on, and this is how it ends:\n"
    );
    blows(reports, Finisher::Completer, Moment::OF_COMPLETERS, &mut text);
    at_every_moment(reports, &mut text);
    text
}

fn blows(reports: &[Report], finisher: Finisher, moments: [Moment; 6], text: &mut String) {
    let _ = writeln!(text, "| when | how | store | at most once | resumable |\n|---|---|---|---|---|");
    for moment in moments {
        // Rows that say the same become one.
        let mut rows: BTreeMap<[String; 2], BTreeMap<BTreeSet<Store>, BTreeSet<Blow>>> = BTreeMap::new();
        for blow in Blow::ALL {
            let mut same: BTreeMap<[String; 2], BTreeSet<Store>> = BTreeMap::new();
            for store in Store::ALL {
                // Whether a process that is asked to end takes what was half sent
                // is up to the moment.
                if (finisher, blow, moment) == (Finisher::Client, Blow::Terminate, Moment::BeforeClaim) {
                    continue;
                }
                let told = Mode::ALL.map(|mode| {
                    let cell = Cell { finisher, store, fault: Fault::Blow(blow), moment, mode };
                    reports.iter().find(|report| report.cell == cell).map(blow_told)
                });
                if let [Some(once), Some(resumable)] = told {
                    same.entry([once, resumable]).or_default().insert(store);
                }
            }
            for (told, stores) in same {
                rows.entry(told).or_default().entry(stores).or_default().insert(blow);
            }
        }
        let mut lines: Vec<_> = Vec::new();
        for ([once, resumable], groups) in rows {
            for (stores, blows) in groups {
                let line = format!(
                    "| {} | {} | {} | {once} | {resumable} |",
                    moment.name(finisher),
                    list(blows.iter().map(|blow| blow.name())),
                    list(stores.iter().map(|store| store.name())),
                );
                lines.push((blows, stores, line));
            }
        }
        lines.sort();
        for (_, _, line) in lines {
            let _ = writeln!(text, "{line}");
        }
    }
}

fn blow_told(report: &Report) -> String {
    let Report { trace, charges, cell, .. } = report;
    let forgot = if *charges > 1 { cell.residual() } else { None };
    let forgot = forgot.map(|why| format!("; {why}")).unwrap_or_default();
    // That what ran is then replayed goes without saying.
    let trace = match trace.as_slice() {
        [rest @ .., last]
            if !rest.is_empty() && last == "replay" && ["runs", "resumes"].contains(&rest[rest.len() - 1].as_str()) =>
        {
            rest
        }
        all => all,
    };
    format!("{}; {}{forgot}", trace.join(", "), charged(*charges))
}

fn charged(charges: usize) -> String {
    match charges {
        0 => "not charged".to_owned(),
        1 => "charged once".to_owned(),
        2 => "**charged twice**".to_owned(),
        more => format!("**charged {more} times**"),
    }
}

fn list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

fn outages(reports: &[Report], text: &mut String) {
    let _ = writeln!(
        text,
        "\nThe store fails, or one process's link to it, at each of these moments and for\nlonger than the lease. What a \
         new key gets meanwhile (from the other process, if\nit is a link), and what a retry gets in the \
         end:\n\n| fault | store | meanwhile | at most once | resumable | declared |\n|---|---|---|---|---|---|"
    );
    for outage in Outage::ALL {
        let mut rows: BTreeMap<[String; 4], BTreeSet<Store>> = BTreeMap::new();
        for store in Store::ALL {
            let is_it = |report: &&Report| {
                let Cell { finisher, store: on, fault, .. } = report.cell;
                (finisher, on, fault) == (Finisher::Client, store, Fault::Outage(outage))
            };
            let seen: Vec<_> = reports.iter().filter(is_it).collect();
            let told = Mode::ALL.map(|mode| outage_told(seen.iter().filter(|report| report.cell.mode == mode)));
            if let [Some(once), Some(resumable)] = told {
                let declared = outage.residual(store).unwrap_or("–").to_owned();
                rows.entry([meanwhile(&seen), once, resumable, declared]).or_default().insert(store);
            }
        }
        let mut rows: Vec<_> = rows.into_iter().collect();
        rows.sort_by(|one, two| one.1.cmp(&two.1));
        for ([meanwhile, once, resumable, declared], stores) in rows {
            let (fault, stores) = (outage.name(), list(stores.iter().map(|store| store.name())));
            let _ = writeln!(text, "| {fault} | {stores} | {meanwhile} | {once} | {resumable} | {declared} |");
        }
    }
}

/// Where completers have operations at every moment when something happens.
fn at_every_moment(reports: &[Report], text: &mut String) {
    let _ = writeln!(
        text,
        "\nCompleters run operations at each of these moments, and this happens to all of\nthem. An outage is longer \
         than the lease and than many polls; what is accepted\nmeanwhile is finished too:\n\n\
         | what | store | at most once | resumable |\n|---|---|---|---|"
    );
    for fault in Fault::OF_COMPLETERS {
        let mut rows: BTreeMap<[String; 2], BTreeSet<Store>> = BTreeMap::new();
        for report in reports.iter().filter(|report| report.cell.moment == Moment::Every) {
            let Cell { store, fault: other, .. } = report.cell;
            let told = Mode::ALL.map(|mode| {
                let is_it = |report: &&Report| {
                    let cell = report.cell;
                    (cell.store, cell.fault, cell.moment, cell.mode) == (store, fault, Moment::Every, mode)
                };
                reports.iter().find(is_it).map(|report| every_told(report).to_owned())
            });
            if let (true, [Some(once), Some(resumable)]) = (other == fault, told) {
                rows.entry([once, resumable]).or_default().insert(store);
            }
        }
        let mut rows: Vec<_> = rows.into_iter().collect();
        rows.sort_by(|one, two| one.1.cmp(&two.1));
        for ([once, resumable], stores) in rows {
            let stores = list(stores.iter().map(|store| store.name()));
            let _ = writeln!(text, "| {} | {stores} | {once} | {resumable} |", fault.name());
        }
    }
}

/// Which of the endings that are promised it is, at most once, is up to the
/// moment.
fn every_told(report: &Report) -> &'static str {
    match (report.cell.mode, report.cell.fault) {
        (Mode::AtMostOnce, Fault::Rivals) | (Mode::Resumable, _) => "complete; charged once",
        _ => "complete or parked; charged once at most",
    }
}

/// What was asked for first while the fault lasted.
fn meanwhile(reports: &[&Report]) -> String {
    let new = reports.iter().filter(|report| report.cell.moment == Moment::BeforeClaim);
    let is_refused = |report: &&Report| report.during.iter().eq([&Reply::Unavailable]);
    match new.collect::<Vec<_>>().as_slice() {
        [] => "–",
        new if new.iter().all(|report| is_refused(report)) => "503",
        _ => "runs",
    }
    .to_owned()
}

/// What was seen over all moments: the endings, and the most charges. Which of
/// the endings that are promised it is, at most once, is up to the moment.
fn outage_told<'r>(reports: impl Iterator<Item = &'r &'r Report>) -> Option<String> {
    let reports: Vec<_> = reports.collect();
    let most = reports.iter().map(|report| report.charges).max()?;
    let ending = match reports[0].cell.mode {
        _ if reports.iter().any(|report| !matches!(report.last, Reply::Replay | Reply::Unknown)) => "?",
        Mode::AtMostOnce if most <= 1 => "its answer or `outcome-unknown`",
        _ if reports.iter().all(|report| report.last == Reply::Replay) => "its answer",
        _ => "`outcome-unknown`",
    };
    Some(format!("{ending}; {}", if most > 1 { charged(most) } else { "charged once at most".to_owned() }))
}
