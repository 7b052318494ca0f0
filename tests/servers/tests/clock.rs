//! The clock of the memory store, while the system's is stepped: a lease of a
//! process that runs must neither end nor last for that.
//!
//! Without the test harness: the process that is asked is this program again,
//! under a clock that can be set.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use servers::FakeClock;
use tower_idempotency::clock::{Clock, SystemClock};

const ASKED: &str = "ASKED_FOR_THE_TIME";
const HOUR: i64 = 3600;

fn main() {
    if std::env::var_os(ASKED).is_some() {
        return tell_the_time();
    }
    let name = "no_step_of_the_system_clock_moves_ours";
    let wanted: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if wanted.is_empty() || wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
        no_step_of_the_system_clock_moves_ours();
        println!("test {name} ... ok");
    }
}

/// For each line that it is given: our time and the system's, in seconds.
fn tell_the_time() {
    let clock = SystemClock::new();
    for _ in std::io::stdin().lines() {
        let system = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        println!("{} {system}", clock.now().as_millis() / 1000);
    }
}

fn no_step_of_the_system_clock_moves_ours() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = FakeClock::new(folder.path());
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .env(ASKED, "1")
        .envs(fake.environment())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program again");
    let mut questions = child.stdin.take().expect("its input");
    let mut answers = BufReader::new(child.stdout.take().expect("its output"));
    let mut ask = || {
        writeln!(questions, "?").expect("it reads");
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("it answers");
        let mut times = answer.split_whitespace().map(|time| time.parse::<i64>().expect("seconds"));
        (times.next().expect("our time"), times.next().expect("the system's"))
    };
    let (ours, system) = ask();
    assert!((ours - system).abs() < HOUR / 2, "it starts with the system's time");
    for step in [HOUR, -HOUR, 24 * HOUR] {
        fake.set(step);
        let (now, stepped) = ask();
        assert!((stepped - system - step).abs() < HOUR / 2, "the system's clock was not stepped by {step} seconds");
        assert!((0..HOUR / 2).contains(&(now - ours)), "a step by {step} seconds moved ours by {}", now - ours);
    }
    drop(questions);
    child.wait().expect("it ends");
}
