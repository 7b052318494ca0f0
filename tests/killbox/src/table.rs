//! What was seen, as the table that the guide shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

use crate::cell::{Blow, Cell, Fault, Finisher, Mode, Moment, Outage, Store};
use crate::seen::Reply;
use crate::trial::Report;

/// What stands where nothing is tried.
const NONE: &str = "–";

/// All tables.
pub fn markdown(reports: &[Report]) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "A process dies, is paused for longer than its lease, or is asked to end. Each cell\nlists, in order, what \
         retries with the same key receive. *Transactional*: on Postgres,\nthe charge is a row that the handler \
         writes in the transaction we hand out, and the\nkillbox counts the rows; *rolled back* or *committed* is \
         what the dead process left.\n"
    );
    blows(reports, Finisher::Client, &Moment::ALL, &mut text);
    outages(reports, &mut text);
    let _ = writeln!(
        text,
        "\nBackground requests whose client never polls: the response was 202, and the process\nwhose completer runs \
         the operation dies, is paused, or is asked to end. A completer\nof another process, or of the next one, \
         goes on. Each cell says how the operation ends:\n"
    );
    blows(reports, Finisher::Completer, &Moment::OF_COMPLETERS, &mut text);
    at_every_moment(reports, &mut text);
    text
}

/// Stores that say the same of calls, and what they say of transactions.
#[derive(Default)]
struct Same {
    stores: BTreeSet<Store>,
    transactional: BTreeSet<String>,
}

impl Same {
    fn transactional(self) -> String {
        if self.transactional.is_empty() {
            return NONE.to_owned();
        }
        self.transactional.into_iter().collect::<Vec<_>>().join(OR)
    }
}

/// Between what different stores say in one place.
const OR: &str = " or ";

/// What is shown of each mode, if anything is.
fn told_of_modes(told: impl Fn(Mode) -> Option<String>) -> Option<([String; 2], Option<String>)> {
    let (calls, transactional) = (Mode::OF_CALLS.map(&told), told(Mode::Transactional));
    let is_any = transactional.is_some() || calls.iter().any(Option::is_some);
    is_any.then(|| (calls.map(|told| told.unwrap_or_else(|| NONE.to_owned())), transactional))
}

fn blows(reports: &[Report], finisher: Finisher, moments: &[Moment], text: &mut String) {
    let is_client = finisher == Finisher::Client;
    let (name, line) = if is_client { (" transactional |", "---|") } else { ("", "") };
    let _ = writeln!(text, "| when | how | store | at-most-once | resumable |{name}\n|---|---|---|---|---|{line}");
    for &moment in moments {
        // Rows that say the same become one.
        let mut rows: BTreeMap<[String; 3], BTreeMap<BTreeSet<Store>, BTreeSet<Blow>>> = BTreeMap::new();
        for blow in Blow::ALL {
            let mut same: BTreeMap<[String; 2], Same> = BTreeMap::new();
            for store in Store::ALL {
                let told = told_of_modes(|mode| {
                    let cell = Cell { finisher, store, fault: Fault::Blow(blow), moment, mode };
                    place(&cell).and_then(|_| reports.iter().find(|report| report.cell == cell)).map(blow_told)
                });
                let Some((calls, transactional)) = told else { continue };
                let same = same.entry(calls).or_default();
                same.stores.insert(store);
                same.transactional.extend(transactional);
            }
            for ([once, resumable], same) in same {
                let stores = same.stores.clone();
                let told = [once, resumable, same.transactional()];
                rows.entry(told).or_default().entry(stores).or_default().insert(blow);
            }
        }
        let mut lines: Vec<_> = Vec::new();
        for ([once, resumable, transactional], groups) in rows {
            for (stores, blows) in groups {
                let more = if is_client { format!(" {transactional} |") } else { String::new() };
                let line = format!(
                    "| {} | {} | {} | {once} | {resumable} |{more}",
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
    // Who lives is done with its COMMIT sooner or later than the retry asks.
    let is_open = cell.moment.is_commit() && cell.fault == Fault::Blow(Blow::Terminate);
    // That what ran is then replayed goes without saying.
    let trace = match trace.as_slice() {
        [busy, rest @ ..] if is_open && busy == "409" => rest,
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
        "\nThe store fails, or one process's link to it, at each of these moments and for\nlonger than the lease. The \
         cells say what a new key gets meanwhile (from the other\nprocess, if it is a link), and what a retry gets in \
         the end. The killbox cuts no power,\nwhich one machine can't do to itself. Where commits do not wait for \
         the disk, it kills\nall of the server's processes at once instead.\n\n\
         | fault | store | meanwhile | at-most-once | resumable | transactional | declared |\n\
         |---|---|---|---|---|---|---|"
    );
    for outage in Outage::ALL {
        let mut rows: BTreeMap<[String; 4], Same> = BTreeMap::new();
        for store in Store::ALL {
            let is_it = |report: &&Report| {
                let Cell { finisher, store: on, fault, .. } = report.cell;
                (finisher, on, fault) == (Finisher::Client, store, Fault::Outage(outage))
            };
            let seen: Vec<_> = reports.iter().filter(is_it).collect();
            let told = told_of_modes(|mode| outage_told(seen.iter().filter(|report| report.cell.mode == mode)));
            let Some(([once, resumable], transactional)) = told else { continue };
            let declared = outage.residual(store).unwrap_or(NONE).to_owned();
            let same = rows.entry([meanwhile(&seen), once, resumable, declared]).or_default();
            same.stores.insert(store);
            same.transactional.extend(transactional);
        }
        let mut rows: Vec<_> = rows.into_iter().collect();
        rows.sort_by(|one, two| one.1.stores.cmp(&two.1.stores));
        for ([meanwhile, once, resumable, declared], same) in rows {
            let (fault, stores) = (outage.name(), list(same.stores.iter().map(|store| store.name())));
            let told = [meanwhile, once, resumable, same.transactional(), declared].join(" | ");
            let _ = writeln!(text, "| {fault} | {stores} | {told} |");
        }
    }
}

/// Where completers have operations at every moment when something happens.
fn at_every_moment(reports: &[Report], text: &mut String) {
    let _ = writeln!(
        text,
        "\nCompleters run operations at each of these moments, and this happens to all of\nthem. An outage is longer \
         than the lease and than many polls; what is accepted\nmeanwhile is finished too:\n\n\
         | what | store | at-most-once | resumable |\n|---|---|---|---|"
    );
    for fault in Fault::OF_COMPLETERS {
        let mut rows: BTreeMap<[String; 2], BTreeSet<Store>> = BTreeMap::new();
        for report in reports.iter().filter(|report| report.cell.moment == Moment::Every) {
            let Cell { store, fault: other, .. } = report.cell;
            let told = Mode::OF_CALLS.map(|mode| {
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
        (Mode::AtMostOnce, Fault::Rivals) | (Mode::Resumable | Mode::Transactional, _) => "complete; charged once",
        _ => "complete or parked; charged once at most",
    }
}

const REFUSED: &str = "503";

/// 503, or 409 where a claim is there that was not acknowledged.
const NOT_GRANTED: &str = "refused";

/// What was asked for first while the fault lasted.
fn meanwhile(reports: &[&Report]) -> String {
    let new = reports.iter().filter(|report| report.cell.moment == Moment::BeforeClaim);
    let is_refused = |report: &&Report| report.during.iter().eq([&Reply::Unavailable]);
    let is_away = |report: &&Report| report.cell.fault == Fault::Outage(Outage::ReplicaAway);
    match new.collect::<Vec<_>>().as_slice() {
        [] => NONE,
        new if new.iter().all(|report| is_away(report) && !has_run(report)) => NOT_GRANTED,
        new if new.iter().all(|report| is_refused(report)) => REFUSED,
        _ => "runs",
    }
    .to_owned()
}

fn has_run(report: &Report) -> bool {
    report.during.iter().any(|reply| matches!(reply, Reply::Ran | Reply::Replay))
}

/// What was seen over all moments: the endings, and the most charges. Which of
/// the endings that are promised it is, at most once, is up to the moment.
fn outage_told<'r>(reports: impl Iterator<Item = &'r &'r Report>) -> Option<String> {
    let reports: Vec<_> = reports.collect();
    let most = reports.iter().map(|report| report.charges).max()?;
    let ending = match reports[0].cell.mode {
        _ if reports.iter().any(|report| !matches!(report.last, Reply::Replay | Reply::Unknown)) => "?",
        Mode::AtMostOnce if most <= 1 => "its response or `outcome-unknown`",
        _ if reports.iter().all(|report| report.last == Reply::Replay) => "its response",
        _ => "its response or `outcome-unknown`",
    };
    Some(format!("{ending}; {}", if most > 1 { charged(most) } else { "charged once at most".to_owned() }))
}

/// Where a cell is shown: one line and one column of one table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The first is 0.
    pub table: usize,
    /// Empty where the table has no such column.
    pub when: String,
    pub how: String,
    pub store: String,
    pub mode: &'static str,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, when, how, store, mode } = self;
        write!(f, "{when:?} {how:?} {store:?} {mode:?} (table {})", table + 1)
    }
}

/// Where this cell is shown, if it is.
pub fn place(cell: &Cell) -> Option<Place> {
    let Cell { finisher, store, fault, moment, mode } = *cell;
    let (table, when) = match (finisher, fault) {
        // Whether a process that is asked to end takes what was half sent is up
        // to the moment.
        (Finisher::Client, Fault::Blow(Blow::Terminate)) if moment == Moment::BeforeClaim => return None,
        (Finisher::Client, Fault::Blow(_)) => (0, moment.name(finisher)),
        (Finisher::Client, _) => (1, ""),
        (Finisher::Completer, Fault::Blow(_)) => (2, moment.name(finisher)),
        (Finisher::Completer, _) => (3, ""),
    };
    let [when, how, store] = [when, fault.name(), store.name()].map(str::to_owned);
    Some(Place { table, when, how, store, mode: mode.name() })
}

/// What the table says of a cell in other columns than its own.
pub fn declared(cell: &Cell) -> Option<&'static str> {
    match (cell.finisher, cell.fault) {
        (Finisher::Client, Fault::Outage(outage)) => Some(outage.residual(cell.store).unwrap_or(NONE)),
        _ => None,
    }
}

/// Whether something is said there at all.
pub fn is_said(text: &str) -> bool {
    text != NONE
}

/// What a first retry sees that comes when the lease is over: no attempt holds the
/// key any more, and what was rolled back can't be told from what runs.
fn late(told: &str) -> String {
    let told = told.replacen("409, ", "", 1);
    told.strip_prefix("rolled back, ").map(str::to_owned).unwrap_or(told)
}

/// Whether what came of a cell is what its place says, and what is said of new
/// keys. One cell of an outage is one moment of all that its place sums up.
pub fn agrees(report: &Report, said: &str, of_new_keys: Option<&str>) -> bool {
    let cell = report.cell;
    match (cell.finisher, cell.fault) {
        (_, Fault::Blow(_)) => {
            let seen = blow_told(report);
            said.split(OR).any(|told| told == seen || report.is_late && late(told) == seen)
        }
        (Finisher::Completer, _) => said == every_told(report),
        (Finisher::Client, _) => {
            // What is declared may come about in one run and not in another.
            let may_forget = cell.residual().is_some() && cell.mode != Mode::Resumable;
            let most = if may_forget || said.contains("**") { 2 } else { 1 };
            let is_ending = match report.last {
                Reply::Replay => said.starts_with("its response"),
                Reply::Unknown => said.contains("`outcome-unknown`"),
                _ => false,
            };
            let is_refused = report.during.iter().eq([&Reply::Unavailable]);
            let is_so_meanwhile = match of_new_keys {
                _ if cell.moment != Moment::BeforeClaim => true,
                Some(NOT_GRANTED) => !has_run(report),
                Some(said) => is_refused == (said == REFUSED),
                None => true,
            };
            report.charges <= most && is_ending && is_so_meanwhile
        }
    }
}
