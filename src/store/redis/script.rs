//! The scripts, and one call of one of them.

use std::sync::LazyLock;

use bytes::Bytes;
use redis::{Cmd, RedisError, Value};

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
script!(LOAD, "load.lua");
script!(SCAN, "scan.lua");
script!(EPOCH, "epoch.lua");
script!(PROBE, "probe.lua");

/// One call of a script.
pub(super) struct Call {
    pub(super) script: &'static Script,
    pub(super) keys: Vec<String>,
    pub(super) arguments: Vec<Bytes>,
}

impl Call {
    /// By its digest, which is all that is sent as long as the server knows it.
    pub(super) fn by_digest(&self) -> Cmd {
        self.complete(redis::cmd("EVALSHA").arg(&*self.script.digest))
    }

    /// By its text, after which the server knows it.
    pub(super) fn by_text(&self) -> Cmd {
        self.complete(redis::cmd("EVAL").arg(self.script.code))
    }

    fn complete(&self, command: &mut Cmd) -> Cmd {
        command.arg(self.keys.len());
        self.keys.iter().for_each(|key| {
            command.arg(key);
        });
        self.arguments.iter().for_each(|argument| {
            command.arg(&argument[..]);
        });
        std::mem::take(command)
    }
}

/// Whether the server does not know the script (any more).
pub(super) fn is_unknown_script(reply: &Result<Value, RedisError>) -> bool {
    matches!(reply, Err(error) if error.code() == Some("NOSCRIPT"))
}
