//! The table in `src/guide/crashes.md` is what a full run printed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cell::{Cell, Mode};
use crate::table::{self, Place, is_said};
use crate::trial::Report;

const BEGIN: &str = "<!-- killbox -->\n";
const END: &str = "<!-- /killbox -->\n";

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src/guide/crashes.md")
}

/// What is before the table, the table, and what is after it.
fn read() -> Result<[String; 3], &'static str> {
    let page = std::fs::read_to_string(path()).expect("crashes.md");
    let (before, rest) = page.split_once(BEGIN).ok_or("it has no place for it")?;
    let (shown, after) = rest.split_once(END).ok_or("its place has no end")?;
    Ok([before, shown, after].map(str::to_owned))
}

/// Whether crashes.md shows this table; `write` makes it so.
pub fn compare(table: &str, write: bool) -> bool {
    let [before, shown, after] = match read() {
        Ok(parts) => parts,
        Err(why) => return complain(why),
    };
    if shown == table {
        println!("crashes.md shows this table");
        return true;
    }
    if write {
        std::fs::write(path(), format!("{before}{BEGIN}{table}{END}{after}")).expect("crashes.md can be written");
        println!("crashes.md shows this table now");
        return true;
    }
    let is_in = |text: &str, line: &str| text.lines().any(|other| other == line);
    for line in shown.lines().filter(|line| !is_in(table, line)) {
        println!("- {line}");
    }
    for line in table.lines().filter(|line| !is_in(&shown, line)) {
        println!("+ {line}");
    }
    complain("what it shows differs")
}

fn complain(what: &str) -> bool {
    println!("BROKEN: crashes.md does not show this table: {what}; a full run with --write puts it there");
    false
}

/// What crashes.md says of cells, so that a run of a few can be held against it.
pub struct Shown {
    /// The lines that are no rows.
    frame: String,
    /// Each place has one row that speaks of it.
    said: BTreeMap<Place, Vec<Said>>,
}

struct Said {
    text: String,
    /// In other columns of the same row.
    meanwhile: Option<String>,
    declared: Option<String>,
}

impl Shown {
    pub fn read() -> Result<Self, &'static str> {
        let [_, shown, _] = read()?;
        Ok(Self::parse(&shown))
    }

    fn parse(shown: &str) -> Self {
        let mut tables: Vec<Vec<&str>> = Vec::new();
        let (mut frame, mut said) = (String::new(), BTreeMap::<Place, Vec<Said>>::new());
        for line in shown.lines() {
            let fields: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            let is_header = ["when", "fault", "what"].contains(&fields[0]);
            if is_header {
                tables.push(fields.clone());
            }
            match tables.last() {
                Some(names) if line.starts_with("| ") && !is_header => {
                    let row: BTreeMap<_, _> = names.iter().copied().zip(fields).collect();
                    for (place, what) in spread(tables.len() - 1, &row) {
                        said.entry(place).or_default().push(what);
                    }
                }
                _ => frame.extend([line, "\n"]),
            }
        }
        Self { frame, said }
    }

    /// Whether its rows are those of all these cells, whatever they say.
    pub fn has_rows_of(&self, cells: &[Cell]) -> bool {
        let wrong = self.misplaced(cells);
        for wrong in &wrong {
            println!("crashes.md: {wrong}");
        }
        wrong.is_empty() || complain("its rows are not those there are")
    }

    fn misplaced(&self, cells: &[Cell]) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.frame != table::markdown(&[]) {
            wrong.push("the text around the rows is another one".to_owned());
        }
        let planned: BTreeMap<_, _> = cells.iter().filter_map(|cell| Some((table::place(cell)?, cell))).collect();
        for (place, cell) in &planned {
            let declared = self.said.get(place).and_then(|rows| rows[0].declared.as_deref());
            match self.said.get(place).map(Vec::len) {
                None => wrong.push(format!("nothing is said of {place}")),
                Some(1) if declared != table::declared(cell) => {
                    wrong.push(format!("{declared:?} is declared of {place}"))
                }
                Some(1) => {}
                Some(rows) => wrong.push(format!("{rows} rows speak of {place}")),
            }
        }
        let unplanned = self.said.keys().filter(|place| !planned.contains_key(place));
        wrong.extend(unplanned.map(|place| format!("no cell is {place}")));
        wrong
    }

    /// What crashes.md says instead, if it is not what came of this cell.
    pub fn denies(&self, report: &Report) -> Option<String> {
        let place = table::place(&report.cell)?;
        let Some(said) = self.said.get(&place).and_then(|rows| rows.first()) else {
            return Some(format!("nothing of {place}"));
        };
        let agrees = table::agrees(report, &said.text, said.meanwhile.as_deref());
        (!agrees).then(|| format!("{:?} of {place}, new keys: {:?}", said.text, said.meanwhile))
    }
}

/// What one row says, place by place.
fn spread(table: usize, row: &BTreeMap<&str, &str>) -> Vec<(Place, Said)> {
    let get = |name: &str| row.get(name).copied();
    // Several blows may share a row; a fault has rows of its own.
    let hows: Vec<_> = match get("how") {
        Some(blows) => blows.split(", ").collect(),
        None => ["fault", "what"].into_iter().filter_map(get).collect(),
    };
    let mut all = Vec::new();
    for how in hows {
        for store in get("store").unwrap_or_default().split(", ") {
            for mode in Mode::ALL {
                let Some(text) = get(mode.name()).filter(|text| is_said(text)) else { continue };
                // What is said of transactions is said of those that have some.
                if mode == Mode::Transactional && !store.starts_with("Postgres") {
                    continue;
                }
                let [when, how, store] = [get("when").unwrap_or_default(), how, store].map(str::to_owned);
                let said = Said {
                    text: text.to_owned(),
                    meanwhile: get("meanwhile").map(str::to_owned),
                    declared: get("declared").map(str::to_owned),
                };
                all.push((Place { table, when, how, store, mode: mode.name() }, said));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{Blow, Fault, Finisher, Moment, Outage, Store};
    use crate::seen::Reply;

    const CELL: Cell = Cell {
        finisher: Finisher::Client,
        store: Store::Postgres,
        fault: Fault::Blow(Blow::Kill),
        moment: Moment::AfterCharge,
        mode: Mode::Transactional,
    };

    fn report(cell: Cell, trace: &[&str], last: Reply, charges: usize) -> Report {
        let trace = trace.iter().map(|&what| what.to_owned()).collect();
        Report { trace, last, charges, broken: Vec::new(), ..Report::failed(cell, String::new()) }
    }

    fn resumed(mode: Mode) -> Report {
        report(Cell { mode, ..CELL }, &["409", "resumes", "replay"], Reply::Replay, 1)
    }

    /// Three cells of one fault, and one of another.
    fn reports() -> Vec<Report> {
        let mut reports: Vec<_> = Mode::ALL.into_iter().map(resumed).collect();
        let outage = Cell { fault: Fault::Outage(Outage::Hold), moment: Moment::BeforeClaim, ..CELL };
        let during = [Reply::Unavailable].into();
        reports.push(Report { during, ..report(outage, &["replay"], Reply::Replay, 1) });
        reports
    }

    fn shown(text: &str) -> Shown {
        Shown::parse(text)
    }

    #[test]
    fn what_is_printed_is_what_is_read() {
        let (reports, cells) = (reports(), reports().iter().map(|report| report.cell).collect::<Vec<_>>());
        let text = table::markdown(&reports);
        assert_eq!(shown(&text).misplaced(&cells), [""; 0]);
        for report in &reports {
            assert_eq!(shown(&text).denies(report), None, "{}", report.cell);
        }
    }

    /// What a bounded run says at its end, without the run.
    #[test]
    fn the_page_has_the_rows_of_all_cells() {
        let shown = Shown::read().expect("crashes.md has a place for the table");
        assert_eq!(shown.misplaced(&Cell::all()), [""; 0]);
    }

    #[test]
    fn what_came_otherwise_is_denied() {
        let text = shown(&table::markdown(&reports()));
        let twice = report(CELL, &["409", "resumes", "replay"], Reply::Replay, 2);
        let other = report(CELL, &["replay"], Reply::Replay, 1);
        let elsewhere = report(Cell { store: Store::Redis, ..CELL }, &["409", "resumes"], Reply::Replay, 1);
        let cut = reports().pop().expect("one");
        let let_in = Report { during: [Reply::Ran].into(), ..report(cut.cell, &[], Reply::Replay, 1) };
        let unknown = Report { last: Reply::Unknown, ..report(cut.cell, &[], Reply::Unknown, 1) };
        for report in [twice, other, elsewhere, let_in, unknown] {
            assert!(text.denies(&report).is_some(), "{}", report.cell);
        }
    }

    #[test]
    fn a_409_may_be_missing_only_where_the_lease_was_over() {
        let text = shown(&table::markdown(&reports()));
        let seen = |is_late| Report { is_late, ..report(CELL, &["resumes", "replay"], Reply::Replay, 1) };
        assert!(text.denies(&seen(false)).is_some());
        assert_eq!(text.denies(&seen(true)), None);
        let unasked = Report { is_late: true, ..report(CELL, &["replay"], Reply::Replay, 1) };
        assert!(text.denies(&unasked).is_some());
    }

    #[test]
    fn a_row_too_many_and_one_too_few_are_found() {
        let (reports, cells) = (reports(), reports().iter().map(|report| report.cell).collect::<Vec<_>>());
        let text = table::markdown(&reports);
        let is_row = |line: &&str| line.contains("SIGKILL") && line.contains("409");
        let row = text.lines().find(is_row).expect("a row");
        let without = text.replace(&format!("{row}\n"), "");
        assert_eq!(shown(&without).misplaced(&cells).len(), 3);
        let doubled = text.replace(row, &format!("{row}\n{row}"));
        assert_eq!(shown(&doubled).misplaced(&cells).len(), 3);
        assert_eq!(shown(&text).misplaced(&cells[1..]).len(), 1);
        assert_eq!(shown(&text.replace("cuts no power", "cuts power")).misplaced(&cells).len(), 1);
        assert_eq!(shown(&text.replace("| – |\n", "| forgets every key |\n")).misplaced(&cells).len(), 1);
    }
}
