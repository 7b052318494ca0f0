//! Servers that are processes of their own, and load on them over sockets.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::Failure;

/// The last commit of this repository that has the store before this one.
const OLD: &str = "ceaa9dd";

/// Ends with this value.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(command: &mut Command) -> Result<Self, Failure> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().ok_or("no output")?;
        let told = BufReader::new(output).read_line(&mut line).map_err(Failure::from);
        match told.and_then(|_| line.trim().parse().map_err(|_| "the server did not start".into())) {
            Ok(address) => Ok(Self { child, address }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Answers a second, while so many connections ask with keys that are new.
    pub(crate) fn load(&self, connections: usize, slice: Duration) -> Result<(usize, f64), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (tasks, begin) = (LocalSet::new(), Instant::now());
        let connect = |_| tasks.spawn_local(ask_until(self.address, begin + slice));
        let asking: Vec<_> = (0..connections).map(connect).collect();
        let count = tasks.block_on(&runtime, async {
            let mut count = 0;
            for connection in asking {
                count += connection.await??;
            }
            Ok::<usize, Failure>(count)
        })?;
        Ok((count, count as f64 / begin.elapsed().as_secs_f64()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn ask_until(server: SocketAddr, end: Instant) -> Result<usize, Failure> {
    static KEYS: AtomicU64 = AtomicU64::new(0);
    let mut stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let body = format!("{{\"amount\":1999,\"pad\":\"{}\"}}", "p".repeat(176));
    let (mut request, mut answer, mut count) = (String::new(), vec![0; 4096], 0);
    while Instant::now() < end {
        let key = KEYS.fetch_add(1, Ordering::Relaxed);
        request.clear();
        write!(
            request,
            "POST /payments HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             idempotency-key: 01234567-89ab-4cde-8000-{key:012}\r\n\r\n{body}",
            body.len(),
        )?;
        stream.write_all(request.as_bytes()).await?;
        read_answer(&mut stream, &mut answer).await?;
        count += 1;
    }
    Ok(count)
}

async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<(), Failure> {
    let mut read = 0;
    loop {
        let more = stream.read(&mut buffer[read..]).await?;
        if more == 0 {
            return Err("the server hung up".into());
        }
        read += more;
        let Some(head) = buffer[..read].windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head])?;
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).ok_or("no length")?;
        if read < head + 4 + length.parse::<usize>()? {
            continue;
        }
        if !text.starts_with("HTTP/1.1 201") {
            return Err(String::from_utf8_lossy(&buffer[..read]).into());
        }
        return Ok(());
    }
}

pub(crate) fn ours(directory: &Path) -> Result<Server, Failure> {
    let url = format!("sqlite:{}", directory.join("three-steps.db").display());
    Server::start(Command::new(std::env::current_exe()?).arg("serve").arg(url))
}

/// The same handler on an earlier commit, which is built first.
pub(crate) fn old(directory: &Path) -> Result<Server, Failure> {
    let tree = beside_the_build("old")?;
    if !tree.join("Cargo.toml").exists() {
        std::fs::create_dir_all(&tree)?;
        let archive = tree.join("tree.tar");
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        done(Command::new("git").current_dir(repository.join("../..")).args(["archive", OLD, "-o"]).arg(&archive))?;
        done(Command::new("tar").current_dir(&tree).arg("-xf").arg(&archive))?;
        std::fs::remove_file(archive)?;
    }
    std::fs::write(tree.join("examples/three_steps.rs"), include_str!("three_steps.rs"))?;
    let built = build(&tree, &["--example", "three_steps"])?.join("examples/three_steps");
    let url = format!("file:{}", directory.join("three-steps.old").display());
    Server::start(Command::new(built).arg(url))
}

/// On durare, which syncs each commit as we do, or as it does by itself.
pub(crate) fn durare(directory: &Path, synchronous: &str) -> Result<Server, Failure> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("durare");
    let built = build(&package, &["--locked"])?.join("compare-durare");
    let path = directory.join(format!("three-steps.durare-{synchronous}"));
    Server::start(Command::new(built).arg(path).arg(synchronous))
}

fn beside_the_build(name: &str) -> Result<PathBuf, Failure> {
    let target = std::env::current_exe()?.parent().and_then(Path::parent).ok_or("no directory")?.join("compare");
    Ok(target.join(name))
}

/// Where the programs are.
fn build(package: &Path, arguments: &[&str]) -> Result<PathBuf, Failure> {
    let target = beside_the_build("target")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = package.join("Cargo.toml");
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--quiet", "--manifest-path"]).arg(manifest);
    done(command.args(arguments).arg("--target-dir").arg(&target))?;
    Ok(target.join("release"))
}

fn done(command: &mut Command) -> Result<(), Failure> {
    // What is for people goes where it is seen, and not among the figures.
    let status = command.stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} failed").into()) }
}
