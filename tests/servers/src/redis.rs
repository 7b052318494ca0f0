//! Redis and Valkey: one server, a cluster, a primary under sentinels.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use redis::ConnectionLike as _;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{PATIENCE, Process, free_port, program, wait_until};

/// One server with a port and a folder of its own. Ends with this guard.
///
/// Without arguments it persists nothing: a restart forgets everything.
#[derive(Debug)]
pub struct Redis {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    folder: TempDir,
    port: u16,
    starts: u32,
    process: Option<Process>,
}

impl Redis {
    /// A server that persists nothing.
    ///
    /// # Panics
    ///
    /// If redis-server is not installed or does not start.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A server with these arguments, as `["--appendonly", "yes"]`.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::launch(redis_server(), arguments)
    }

    /// A Valkey server.
    ///
    /// # Panics
    ///
    /// If valkey-server is not installed; `scripts/valkey` installs one for
    /// the tests only.
    pub fn valkey() -> Self {
        Self::valkey_with(&[])
    }

    /// A Valkey server with these arguments.
    pub fn valkey_with(arguments: &[&str]) -> Self {
        Self::launch(valkey_server(), arguments)
    }

    /// A server that reads its settings from a file of its own, which it may
    /// rewrite: a sentinel does.
    fn start_from(settings: &str) -> Self {
        let mut server = Self::new(redis_server(), &[]);
        let file = server.folder.path().join("server.conf");
        fs::write(&file, settings.replace("{port}", &server.port.to_string())).expect("its settings");
        server.arguments = vec![file.to_str().expect("a UTF-8 path").to_owned(), "--sentinel".to_owned()];
        server
    }

    /// A sentinel with these settings; `{port}` in them becomes its port.
    pub fn sentinel(settings: &str) -> Self {
        let mut sentinel = Self::start_from(settings);
        sentinel.run("+monitor");
        sentinel
    }

    fn new(program: PathBuf, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (environment, port) = (Vec::new(), free_port());
        Self { program, arguments, environment, folder, port, starts: 0, process: None }
    }

    fn launch(program: PathBuf, arguments: &[&str]) -> Self {
        let mut server = Self::new(program, arguments);
        server.restart();
        server
    }

    /// Adds to its environment, from its next start on.
    pub fn set_environment(&mut self, variables: Vec<(String, String)>) {
        self.environment = variables;
    }

    /// Starts it again, on the same port and in the same folder. Kills it
    /// first if it still runs.
    pub fn restart(&mut self) {
        self.kill();
        self.run("Ready to accept connections");
    }

    /// The same, but returns once it says that it loads its data, and before
    /// it has.
    pub fn restart_and_load(&mut self) {
        self.kill();
        self.run("Loading RDB");
    }

    fn run(&mut self, ready: &str) {
        self.starts += 1;
        let log = self.folder.path().join(format!("{}.log", self.starts));
        let mut command = Command::new(&self.program);
        command.current_dir(self.folder.path()).envs(self.environment.iter().cloned());
        if !self.arguments.iter().any(|argument| argument == "--sentinel") {
            // What the caller says comes later, and wins.
            command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
            command.args(["--enable-debug-command", "yes"]);
        }
        command.args(&self.arguments);
        let mut process = Process::start(&mut command, &log);
        wait_until("a redis server to start", || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            assert!(!process.has_ended(), "the server ended at its start: {said}");
            said.contains(ready)
        });
        self.process = Some(process);
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its folder, where it keeps what it persists.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What `redis-cli` prints after this command. It is asked only where the first of these is an
    /// option of its own, such as `--scan`: a third of the tests' processor time went into its starts.
    ///
    /// # Panics
    ///
    /// If the server can't be reached, or redis-cli is needed and not installed.
    pub fn cli(&self, arguments: &[&str]) -> String {
        self.try_cli(arguments).unwrap_or_else(|error| panic!("redis-cli {arguments:?}: {error}"))
    }

    /// Starts `redis-cli` with this command, which may take its time.
    pub fn start_cli(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new(program("redis-cli", &[], "redis-tools"));
        command.args(["-p", &self.port.to_string()]).args(arguments);
        command.stdout(Stdio::null()).spawn().expect("redis-cli runs")
    }

    fn try_cli(&self, arguments: &[&str]) -> Result<String, String> {
        if !arguments.first().is_some_and(|first| first.starts_with('-')) {
            return asked(&self.url(), arguments).map_err(|error| error.to_string());
        }
        let cli = program("redis-cli", &[], "redis-tools");
        let mut command = Command::new(cli);
        command.args(["-p", &self.port.to_string()]).args(arguments);
        let output = command.output().expect("redis-cli runs");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// One field of `INFO`, empty if there is none.
    pub fn info(&self, field: &str) -> String {
        let info = self.try_cli(&["INFO", "everything"]).unwrap_or_default();
        let line = info.lines().find_map(|line| line.trim_end().strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_default().to_owned()
    }

    /// Nanoseconds on a CPU so far.
    pub fn cpu_nanos(&self) -> u64 {
        self.process.as_ref().expect("it runs").cpu_nanos()
    }

    /// Sends it a signal: `STOP` pauses it, `CONT` lets it go on.
    pub fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("it runs").signal(signal);
    }

    /// Kills it; its folder stays.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Asks it to end and waits until it did; its folder stays.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop();
        }
    }
}

/// What the server replies, as `redis-cli` prints it.
fn asked(url: &str, arguments: &[&str]) -> redis::RedisResult<String> {
    let mut connection = redis::Client::open(url)?.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut command = redis::Cmd::new();
    command.arg(arguments);
    let mut lines = Vec::new();
    print(&connection.req_command(&command)?, &mut lines);
    Ok(lines.join("\n").trim_end().to_owned())
}

fn print(value: &redis::Value, lines: &mut Vec<String>) {
    match value {
        redis::Value::Array(values) => values.iter().for_each(|value| print(value, lines)),
        redis::Value::Nil => lines.push(String::new()),
        redis::Value::Int(number) => lines.push(number.to_string()),
        redis::Value::Okay => lines.push("OK".to_owned()),
        redis::Value::SimpleString(text) => lines.push(text.clone()),
        redis::Value::BulkString(bytes) => lines.push(String::from_utf8_lossy(bytes).into_owned()),
        redis::Value::ServerError(error) => lines.push([error.code(), error.details().unwrap_or_default()].join(" ")),
        other => panic!("the older protocol has no {other:?}"),
    }
}

fn redis_server() -> PathBuf {
    program("redis-server", &[], "redis-server")
}

fn valkey_server() -> PathBuf {
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/valkey");
    program("valkey-server", &[PathBuf::from(target)], "valkey-server from backports, or run scripts/valkey")
}

/// Three primaries that share the slots. They end with this guard.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Redis>,
}

impl Cluster {
    /// One node that has all slots and never met another: it does not know its
    /// own address.
    pub fn start_alone(arguments: &[&str]) -> Redis {
        let bus = free_port().to_string();
        let node = Redis::start_with(&[&["--cluster-enabled", "yes", "--cluster-port", &bus], arguments].concat());
        node.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        wait_until("a cluster of one node", || node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok"));
        node
    }

    /// Starts three nodes and waits until they agree.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with these arguments for every node.
    pub fn start_with(arguments: &[&str]) -> Self {
        let bus: Vec<String> = (0..3).map(|_| free_port().to_string()).collect();
        let settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port"];
        let nodes: Vec<_> =
            bus.iter().map(|bus| Redis::start_with(&[&settings[..], &[bus.as_str()], arguments].concat())).collect();
        let slots = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];
        for (index, (node, (first, last))) in nodes.iter().zip(slots).enumerate() {
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
            node.cli(&["CLUSTER", "ADDSLOTSRANGE", first, last]);
        }
        for (other, bus) in nodes.iter().zip(&bus).skip(1) {
            nodes[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string(), bus]);
        }
        let cluster = Self { nodes };
        cluster.wait_until_whole();
        cluster
    }

    /// One more node: the replica of the last one.
    pub fn start_replica(&self) -> Redis {
        let bus = free_port().to_string();
        let settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", &bus];
        let replica = Redis::start_with(&settings);
        let of = self.nodes[2].cli(&["CLUSTER", "MYID"]);
        self.nodes[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &replica.port().to_string(), &bus]);
        wait_until("the replica to meet its primary", || replica.cli(&["CLUSTER", "NODES"]).contains(&of));
        replica.cli(&["CLUSTER", "REPLICATE", &of]);
        wait_until("the replica to have the data", || replica.cli(&["INFO"]).contains("master_link_status:up"));
        // Otherwise the others would not let it take over.
        let id = replica.cli(&["CLUSTER", "MYID"]);
        let knows = |node: &Redis| {
            let nodes = node.cli(&["CLUSTER", "NODES"]);
            nodes.lines().any(|line| line.starts_with(&id) && line.contains("slave"))
        };
        wait_until("the others to know the replica", || self.nodes.iter().all(knows));
        replica
    }

    /// Waits until every node says that every slot is served, and knows the
    /// others.
    pub fn wait_until_whole(&self) {
        let whole = |node: &Redis| {
            let info = node.try_cli(&["CLUSTER", "INFO"]).unwrap_or_default();
            ["cluster_state:ok", "cluster_slots_ok:16384", "cluster_known_nodes:3"]
                .iter()
                .all(|line| info.contains(line))
        };
        wait_until("a redis cluster to agree", || self.nodes.iter().all(whole));
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// Its nodes, to stop and start them.
    pub fn nodes_mut(&mut self) -> &mut [Redis] {
        &mut self.nodes
    }

    /// `redis+cluster://` with the addresses of all nodes.
    pub fn url(&self) -> String {
        format!("redis+cluster://{}", addresses(&self.nodes))
    }
}

/// A primary, its replica, and three sentinels that watch over them. They end
/// with this guard.
#[derive(Debug)]
pub struct Sentinels {
    servers: [Redis; 2],
    sentinels: Vec<Redis>,
}

impl Sentinels {
    /// The name under which the sentinels know the primary.
    pub const NAME: &str = "mymaster";

    /// Starts them and waits until all know each other.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with these arguments for the primary and the replica.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::launch(redis_server(), arguments)
    }

    /// The same, of a primary and a replica that are Valkey servers.
    pub fn valkey_with(arguments: &[&str]) -> Self {
        Self::launch(valkey_server(), arguments)
    }

    fn launch(program: PathBuf, arguments: &[&str]) -> Self {
        let primary = Redis::launch(program.clone(), arguments);
        let port = primary.port().to_string();
        let follow: Vec<&str> = ["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"].to_vec();
        let replica = Redis::launch(program, &[&follow[..], arguments].concat());
        wait_until("a replica to be in step", || replica.info("master_link_status") == "up");
        let settings = format!(
            "port {{port}}\nbind 127.0.0.1\nsentinel monitor {name} 127.0.0.1 {port} 2\n\
             sentinel down-after-milliseconds {name} 500\nsentinel failover-timeout {name} 3000\n",
            name = Self::NAME,
        );
        let sentinels = (0..3).map(|_| Redis::sentinel(&settings));
        let group = Self { servers: [primary, replica], sentinels: sentinels.collect() };
        wait_until("the sentinels to know each other", || group.sentinels.iter().all(knows_all));
        group
    }

    /// The port of the server that the sentinels take for the primary.
    pub fn primary_port(&self) -> u16 {
        let found = self.sentinels[0].cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::NAME]);
        found.lines().last().and_then(|port| port.parse().ok()).expect("an address")
    }

    /// The server that the sentinels take for the primary.
    pub fn primary(&mut self) -> &mut Redis {
        let port = self.primary_port();
        self.servers.iter_mut().find(|server| server.port() == port).expect("one of the two")
    }

    /// The other one.
    pub fn replica(&mut self) -> &mut Redis {
        let port = self.primary_port();
        self.servers.iter_mut().find(|server| server.port() != port).expect("one of the two")
    }

    /// Waits until another server is the primary, and says so itself.
    pub fn wait_for_failover(&self, from: u16) {
        let is_primary = |server: &Redis| server.port() != from && server.info("role") == "master";
        wait_until("a failover", || self.primary_port() != from && self.servers.iter().any(is_primary));
    }

    /// The sentinels, in the order of the URL.
    pub fn sentinels(&self) -> &[Redis] {
        &self.sentinels
    }

    /// `redis+sentinel://` with the addresses of all sentinels and the name.
    pub fn url(&self) -> String {
        format!("redis+sentinel://{}/{}", addresses(&self.sentinels), Self::NAME)
    }
}

fn knows_all(sentinel: &Redis) -> bool {
    let known = sentinel.cli(&["SENTINEL", "MASTER", Sentinels::NAME]);
    let lines: Vec<_> = known.lines().collect();
    let is = |field: &str, value: &str| lines.windows(2).any(|pair| pair == [field, value]);
    is("num-other-sentinels", "2") && is("num-slaves", "1")
}

fn addresses(servers: &[Redis]) -> String {
    let addresses: Vec<_> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
    addresses.join(",")
}

/// Where the store keeps the record of this key. The layout is fixed: another one
/// would not find what is there.
pub fn redis_name(prefix: &str, key: &[u8; 32]) -> String {
    const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let bit = |at: usize| key.get(at / 8).is_some_and(|byte| byte << (at % 8) & 0x80 != 0);
    let digit = |digit: usize| (0..6).fold(0, |value, n| value << 1 | usize::from(bit(6 * digit + n)));
    let digits: String = (0..43).map(|n| char::from(DIGITS[digit(n)])).collect();
    format!("{{{prefix}:{:02}}}:{digits}", key[31] % 16)
}
