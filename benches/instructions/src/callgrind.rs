//! Runs a scenario under callgrind, and reads what it counted.

use std::ops::{Div, Sub};
use std::path::PathBuf;
use std::process::Command;

use crate::scenario::Scenario;
use crate::servers::Servers;

/// The allocator's functions that find memory.
const ALLOCATES: [&str; 6] = ["malloc", "calloc", "realloc", "memalign", "posix_memalign", "aligned_alloc"];

/// Instructions: the hash's own, and all others; and how often memory was allocated.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) instructions: f64,
    pub(crate) hashing: f64,
    pub(crate) allocations: f64,
}

impl Sub for Cost {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            instructions: self.instructions - other.instructions,
            hashing: self.hashing - other.hashing,
            allocations: self.allocations - other.allocations,
        }
    }
}

impl Div<f64> for Cost {
    type Output = Self;

    fn div(self, by: f64) -> Self {
        Self { instructions: self.instructions / by, hashing: self.hashing / by, allocations: self.allocations / by }
    }
}

/// What a process costs that runs so many rounds of a scenario.
pub(crate) fn cost(scenario: Scenario, rounds: u32, servers: &Servers) -> Result<Cost, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let out = out_file(scenario, rounds);
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--compress-strings=no", "--compress-pos=no", "--error-exitcode=1"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(this)
        .args(["scenario", scenario.name(), &rounds.to_string()])
        // One memcpy for all processors: otherwise glibc takes what this one is best at.
        .env(
            "GLIBC_TUNABLES",
            "glibc.cpu.hwcaps=-AVX2,-AVX,-AVX2_Usable,-AVX_Usable,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM",
        )
        .envs(servers.urls())
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    if !ran.status.success() {
        return Err(format!("valgrind failed: {}", String::from_utf8_lossy(&ran.stderr)));
    }
    let counted = std::fs::read_to_string(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    let _ = std::fs::remove_file(&out);
    sum(&counted).ok_or_else(|| format!("{}: this is not what callgrind writes", out.display()))
}

fn out_file(scenario: Scenario, rounds: u32) -> PathBuf {
    std::env::temp_dir().join(format!("callgrind-{}-{}-{rounds}", std::process::id(), scenario.name()))
}

/// Adds up what each function cost itself: lines of a position and a count below
/// the function's name. The one behind `calls=` is of the function that is called.
fn sum(counted: &str) -> Option<Cost> {
    let mut cost = Cost::default();
    let (mut hashes, mut allocates, mut of_callee) = (false, false, false);
    for line in counted.lines() {
        if let Some(function) = line.strip_prefix("fn=") {
            hashes = function.starts_with("sha2::sha256::soft");
        } else if let Some(function) = line.strip_prefix("cfn=") {
            allocates = ALLOCATES.contains(&function);
        } else if let Some(calls) = line.strip_prefix("calls=") {
            of_callee = true;
            let calls: f64 = calls.split(' ').next()?.parse().ok()?;
            cost.allocations += if allocates { calls } else { 0.0 };
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            let count: f64 = line.split(' ').nth(1)?.parse().ok()?;
            let counter = if hashes { &mut cost.hashing } else { &mut cost.instructions };
            *counter += if of_callee { 0.0 } else { count };
            of_callee = false;
        }
    }
    (cost.instructions > 0.0).then_some(cost)
}
