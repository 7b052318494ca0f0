//! What is different on a terminal: colours and questions; and who reads less than is written.

use std::io::{BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use servers::program as found;
use tempfile::TempDir;

use super::{Bed, Killed, Ran, command, program, ran, sqlite};

/// The program on a terminal of its own, which `script` makes.
pub(super) struct Terminal {
    script: Killed,
    output: BufReader<std::process::ChildStdout>,
    seen: String,
}

impl Terminal {
    pub(super) fn run(bed: &Bed, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let words = [&[env!("CARGO_BIN_EXE_idempotency"), "--store", &bed.url], arguments].concat();
        let line: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
        let mut script = Command::new(found("script", &[], "bsdutils"));
        for name in ["NO_COLOR", "CLICOLOR_FORCE", "CI"] {
            script.env_remove(name);
        }
        script.args(["-qec", &line.join(" "), "/dev/null"]).env("TERM", "xterm-256color").env("USER", "eve");
        script.envs(environment.iter().copied());
        let mut script: Child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(script.stdout.take().unwrap());
        Self { script: Killed(script), output, seen: String::new() }
    }

    /// Waits until this is on the screen.
    pub(super) fn see(&mut self, text: &str) {
        while !self.seen.contains(text) {
            let mut byte = [0];
            assert_eq!(self.output.read(&mut byte).unwrap(), 1, "{text:?} is not in {}", self.seen);
            self.seen.push(char::from(byte[0]));
        }
    }

    pub(super) fn type_in(&mut self, text: &str) {
        self.script.0.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// What was on the screen, and the exit code.
    pub(super) fn end(mut self) -> (String, i32) {
        self.output.read_to_string(&mut self.seen).unwrap();
        (self.seen.clone(), self.script.0.wait().unwrap().code().unwrap())
    }
}

#[test]
fn colours_are_for_terminals() {
    let folder = TempDir::new().unwrap();
    let bed = sqlite(&folder);
    let on_a_terminal = |arguments: &[&str], environment: &[(&str, &str)]| {
        let (seen, code) = Terminal::run(&bed, arguments, environment).end();
        assert!(seen.contains("outcome-unknown") && code == 0, "{seen}");
        seen.contains("\u{1b}[")
    };
    assert!(on_a_terminal(&["list"], &[]));
    assert!(!on_a_terminal(&["list"], &[("NO_COLOR", "1")]));
    assert!(!on_a_terminal(&["list", "--color", "never"], &[]));
    assert!(on_a_terminal(&["list", "--color", "always"], &[("NO_COLOR", "1")]));
    assert!(!on_a_terminal(&["list", "--json"], &[]), "scripts read it");
    let piped = |environment: &[(&str, &str)], color: &str| {
        let arguments = ["--store", &bed.url, "list", "--color", color];
        ran(command().args(arguments).envs(environment.iter().copied())).out.contains("\u{1b}[")
    };
    assert!(!piped(&[], "auto"));
    assert!(piped(&[("CLICOLOR_FORCE", "1")], "auto"));
    assert!(piped(&[], "always"));
}

#[test]
fn only_a_yes_changes_something() {
    let folder = TempDir::new().unwrap();
    let bed = sqlite(&folder);
    let (hash, version) = (bed.unknown.key.to_string(), bed.shown(&bed.unknown)["version"].clone());
    let retry = ["retry", &hash, "--why", "the bank says no"];
    for answer in ["no\n", "\n", "yess\n", "\u{4}"] {
        let mut terminal = Terminal::run(&bed, &retry, &[]);
        terminal.see("Let this operation run again? [yes/no] ");
        terminal.type_in(answer);
        let (seen, code) = terminal.end();
        assert!(seen.contains("nothing was changed") && code == 1, "{answer:?}: {seen}");
        assert_eq!(bed.shown(&bed.unknown)["version"], version, "{answer:?}");
    }
    let mut terminal = Terminal::run(&bed, &retry, &[]);
    terminal.see("[yes/no] ");
    assert!(terminal.seen.contains("outcome-unknown"), "what is decided about is shown: {}", terminal.seen);
    terminal.type_in("yes\n");
    let (seen, code) = terminal.end();
    assert!(seen.contains("done") && code == 0, "{seen}");
    assert_eq!(bed.shown(&bed.unknown)["needs_attention"], false);
}

/// Two operators look at the same window: who says yes later learns that it is another one now.
#[test]
fn a_window_that_changed_before_the_yes_is_not_changed() {
    let folder = TempDir::new().unwrap();
    let bed = sqlite(&folder);
    let plan = ["maintenance", "plan", "--from", "+2h", "--for", "1h", "--reason", "the database moves", "--yes"];
    let id = bed.run(&[&plan[..], &["--json"]].concat()).json()["id"].as_str().unwrap().to_owned();
    let listed = || bed.run(&["maintenance", "list", "--json"]).json()["windows"].clone();
    for late in [&["maintenance", "end", &id][..], &["maintenance", "extend", &id, "--until", "+9h"]] {
        let mut terminal = Terminal::run(&bed, late, &[]);
        terminal.see("[yes/no] ");
        assert!(terminal.seen.contains("the database moves"), "{}", terminal.seen);
        assert_eq!(bed.run(&["maintenance", "extend", &id, "--until", "+5h", "--yes"]).code, 0);
        let before = listed();
        terminal.type_in("yes\n");
        let (seen, code) = terminal.end();
        assert!(seen.contains("it changed since it was shown, and nothing was done") && code == 1, "{seen}");
        assert_eq!(listed(), before);
    }
}

/// As with grep and git, which the signal ends: a script that reads only the first lines, and
/// looks, learns that there was more.
#[test]
fn a_closed_pipe_is_no_success_and_no_error_message() {
    let folder = TempDir::new().unwrap();
    let bed = sqlite(&folder);
    for arguments in [&["list"][..], &["list", "--json"], &["doctor"], &["migrate", "--yes"], &["completions", "bash"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = command();
        command.args(["--store", &bed.url]).args(arguments).stdout(writer).stderr(Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &*told), (Some(141), ""), "{arguments:?}");
    }
    let Ran { code, .. } = program(&["--store", &bed.url, "list"]);
    assert_eq!(code, 0);
}
