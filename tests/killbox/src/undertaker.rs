//! Ends every process of a run with the run, however that ends: Ctrl-C and
//! SIGKILL included.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

const WORKER: &str = "KILLBOX_WORKER";

/// Whether this process is the one that does the work.
pub fn is_worker() -> bool {
    std::env::var_os(WORKER).is_some()
}

/// Runs the work in a process group of its own, which ends with this process.
pub fn supervise() -> ExitCode {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(std::env::args_os().skip(1)).env(WORKER, "1").process_group(0);
    let mut worker = command.spawn().expect("this program starts");
    // Its input ends when we do, and it is in another group than we are.
    let mut undertaker = Command::new("sh");
    undertaker.args(["-c", "read _; kill -KILL -- -$0", &worker.id().to_string()]).process_group(0);
    undertaker.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut undertaker = undertaker.spawn().expect("sh starts");
    let status = worker.wait().expect("it is our child");
    drop(undertaker.stdin.take());
    let _ = undertaker.wait();
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
