//! What the benchmarks share: arguments, keys, reports.

use std::fmt::Debug;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

static FRESH: AtomicU64 = AtomicU64::new(1_000_000);

/// A key that nobody used yet.
pub fn fresh() -> u64 {
    FRESH.fetch_add(1, Ordering::Relaxed)
}

/// `--seconds N`, or so many.
pub fn seconds(default: f64) -> f64 {
    argument("--seconds", default)
}

/// The number behind this argument, or this one.
pub fn argument<N: FromStr<Err: Debug>>(name: &str, default: N) -> N {
    let argument = std::env::args().skip_while(|argument| argument != name).nth(1);
    argument.map_or(default, |number| number.parse().expect("a number"))
}

/// Prints the median and the extremes.
pub fn report(what: &str, mut figures: Vec<f64>, goal: &str) {
    figures.sort_by(f64::total_cmp);
    let (least, median, most) = (figures[0], figures[figures.len() / 2], figures[figures.len() - 1]);
    println!("{what:<24}{median:>10.2}   ({least:.2} to {most:.2})   {goal}");
}
