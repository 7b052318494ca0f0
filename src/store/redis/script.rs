//! The scripts, and one call of one of them.

use std::io::Write;
use std::sync::LazyLock;

use redis::{Arg, Cmd, RedisError, RedisWrite, ToRedisArgs, Value};

/// A script by its text and its digest.
pub(super) struct Script {
    code: &'static str,
    digest: LazyLock<String>,
}

macro_rules! script {
    ($name:ident, $($file:literal),+) => {
        pub(super) static $name: Script = {
            const CODE: &str = concat!($(include_str!($file)),+);
            Script { code: CODE, digest: LazyLock::new(|| redis::Script::new(CODE).get_hash().to_owned()) }
        };
    };
}

script!(PUT, "compare.lua", "put.lua");
script!(REMOVE, "compare.lua", "remove.lua");
script!(PUT_INDEXING_LABELS, "compare.lua", "labels.lua", "put.lua");
script!(REMOVE_INDEXING_LABELS, "compare.lua", "labels.lua", "remove.lua");
script!(LOAD, "load.lua");
script!(SCAN, "scan.lua");
script!(COUNT, "count.lua");
script!(EPOCH, "epoch.lua");
script!(PROBE, "probe.lua");
script!(PARTITIONS, "partitions.lua");

/// One call of a script.
pub(super) struct Call {
    script: &'static Script,
    by_digest: Cmd,
}

impl Call {
    /// About so many bytes will be handed over.
    pub(super) fn new(script: &'static Script, size: usize) -> Self {
        let mut by_digest = Cmd::with_capacity(16, size + 64);
        by_digest.arg("EVALSHA").arg(&*script.digest);
        Self { script, by_digest }
    }

    /// With these keys; what is added later are arguments.
    pub(super) fn keys<const N: usize>(mut self, keys: [&[u8]; N]) -> Self {
        self.by_digest.arg(N).arg(&keys[..]);
        self
    }

    pub(super) fn arg(mut self, argument: impl ToRedisArgs) -> Self {
        self.by_digest.arg(argument);
        self
    }

    /// One argument, of these pieces.
    pub(super) fn joined<const N: usize>(mut self, pieces: [&[u8]; N]) -> Self {
        self.by_digest.arg(Joined(&pieces));
        self
    }

    /// By its digest, which is all that is sent as long as the server knows it.
    /// The first of its keys: which node of a cluster it goes to.
    pub(super) fn key(&self) -> &[u8] {
        // Behind the command, the digest and the number of keys.
        match self.by_digest.args_iter().nth(3) {
            Some(Arg::Simple(key)) => key,
            _ => &[],
        }
    }

    pub(super) const fn by_digest(&self) -> &Cmd {
        &self.by_digest
    }

    /// By its text, after which the server knows it.
    pub(super) fn by_text(&self) -> Cmd {
        let mut command = Cmd::new();
        command.arg("EVAL").arg(self.script.code);
        for argument in self.by_digest.args_iter().skip(2) {
            if let Arg::Simple(bytes) = argument {
                command.arg(bytes);
            }
        }
        command
    }
}

/// Written one behind the other: they are not copied into one before.
struct Joined<'a>(&'a [&'a [u8]]);

impl ToRedisArgs for Joined<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        let mut argument = out.writer_for_next_arg();
        // To memory: it does not fail.
        self.0.iter().for_each(|piece| _ = argument.write_all(piece));
    }
}

/// Whether the server does not know the script (any more).
pub(super) fn is_unknown_script(reply: &Result<Value, RedisError>) -> bool {
    matches!(reply, Err(error) if error.code() == Some("NOSCRIPT"))
}
