//! The only place that writes to standard output: sentences and tables for people, one
//! JSON value a line for scripts.

use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use clap::builder::styling::{AnsiColor, Style};
use comfy_table::{Cell, Color, ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::text::{plain, plain_json};

/// What a text says about an operation, or about the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
    Heading,
    Quiet,
}

impl Tone {
    const fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warning => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Heading => Style::new().bold(),
            Self::Quiet => Style::new().dimmed(),
        }
    }

    const fn color(self) -> Option<Color> {
        match self {
            Self::Plain | Self::Heading => None,
            Self::Good => Some(Color::Green),
            Self::Warning => Some(Color::Yellow),
            Self::Bad => Some(Color::Red),
            Self::Quiet => Some(Color::DarkGrey),
        }
    }
}

/// A text of a table or a line, with its tone.
pub(crate) type Piece = (String, Tone);

/// Where a command writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    colors: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        // As `--color`, NO_COLOR, CLICOLOR_FORCE and the terminal have it.
        let colors = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        Self { json, colors }
    }

    /// Whether scripts read it.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// One value, on one line, for scripts.
    pub(crate) fn value(self, value: &Value) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{}", plain_json(&value.to_string()))
    }

    pub(crate) fn line(self, text: &str, tone: Tone) -> io::Result<()> {
        self.pieces(&[(text.to_owned(), tone)])
    }

    /// A line of several tones.
    pub(crate) fn pieces(self, pieces: &[Piece]) -> io::Result<()> {
        let mut stdout = anstream::stdout().lock();
        for (text, tone) in pieces {
            let style = tone.style();
            write!(stdout, "{style}{}{style:#}", plain(text))?;
        }
        writeln!(stdout)?;
        stdout.flush()
    }

    pub(crate) fn blank(self) -> io::Result<()> {
        writeln!(io::stdout().lock())
    }

    /// A table without lines, as wide as the terminal; piped, a line for each row.
    pub(crate) fn table(self, headings: &[&str], rows: Vec<Vec<Piece>>) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        if self.colors {
            table.enforce_styling();
        }
        table.set_header(headings.iter().map(|heading| self.cell(&((*heading).to_owned(), Tone::Quiet))));
        for row in rows {
            table.add_row(row.iter().map(|piece| self.cell(piece)));
        }
        let mut stdout = io::stdout().lock();
        for line in table.lines() {
            writeln!(stdout, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// How wide the terminal is, if there is one.
    pub(crate) fn width(self) -> Option<u16> {
        Table::new().width()
    }

    fn cell(self, (text, tone): &Piece) -> Cell {
        let cell = Cell::new(plain(text));
        match tone.color().filter(|_| self.colors) {
            Some(color) => cell.fg(color),
            None => cell,
        }
    }

    /// For what takes long. On standard error, and only if that is a terminal.
    pub(crate) fn progress(self, what: &'static str) -> ProgressBar {
        if self.json || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new_spinner().with_message(what);
        let style = ProgressStyle::with_template("{spinner} {msg}: {human_pos} ({elapsed})");
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}
