//! An operator's word before something is changed.

use std::io::{self, IsTerminal, Write};

use crate::failure::Failure;
use crate::text::plain;

/// Asks on the terminal, unless `--yes` was given.
///
/// # Errors
///
/// [`Failure`] if the operator says anything but yes, or if there is no terminal to ask on.
pub(crate) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::refused("nothing was changed: there is no terminal to ask on; add --yes if you mean it"));
    }
    anstream::eprint!("{} [yes/no] ", plain(question));
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "yes" | "y") {
        return Ok(());
    }
    Err(Failure::refused("nothing was changed"))
}
