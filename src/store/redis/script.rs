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
        self.command("EVALSHA", &self.script.digest)
    }

    /// By its text, after which the server knows it.
    pub(super) fn by_text(&self) -> Cmd {
        self.command("EVAL", self.script.code)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let keys = self.keys.iter().map(String::as_bytes);
        let arguments = keys.chain(self.arguments.iter().map(AsRef::as_ref));
        let size: usize = arguments.clone().map(<[u8]>::len).sum();
        let mut command = Cmd::with_capacity(3 + self.keys.len() + self.arguments.len(), 16 + script.len() + size);
        command.arg(name).arg(script).arg(self.keys.len());
        arguments.for_each(|argument| {
            command.arg(argument);
        });
        command
    }
}

/// Whether the server does not know the script (any more).
pub(super) fn is_unknown_script(reply: &Result<Value, RedisError>) -> bool {
    matches!(reply, Err(error) if error.code() == Some("NOSCRIPT"))
}
