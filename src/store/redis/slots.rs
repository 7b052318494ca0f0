//! The slots of a cluster: which one a key is in, and who has it.

use std::ops::RangeInclusive;

use crc::{CRC_16_XMODEM, Crc};
use redis::{RedisError, Value};

const SLOTS: u16 = 16_384;
const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// Where a node is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

/// The slot of a key of ours: what is in braces says it.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let tag = key.split(|byte| *byte == b'{').nth(1).and_then(|rest| rest.split(|byte| *byte == b'}').next());
    CRC.checksum(tag.unwrap_or(key)) % SLOTS
}

/// The primaries, from `CLUSTER SLOTS`: ranges with their nodes, the primary first. `asked` is the
/// host of the node that said so, for those that don't know their own.
pub(super) fn parse(slots: Value, asked: &str) -> Vec<(RangeInclusive<u16>, Address)> {
    let Value::Array(ranges) = slots else { return Vec::new() };
    ranges.into_iter().filter_map(|range| parse_range(&range, asked)).collect()
}

fn parse_range(range: &Value, asked: &str) -> Option<(RangeInclusive<u16>, Address)> {
    let Value::Array(range) = range else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &range[..] else { return None };
    let [host, Value::Int(port), ..] = &primary[..] else { return None };
    let host = match host {
        Value::BulkString(host) => str::from_utf8(host).ok()?,
        Value::Nil => "",
        _ => return None,
    };
    let slots = u16::try_from(*first).ok()?..=u16::try_from(*last).ok()?;
    Some((slots, Address { host: host_of(host, asked)?, port: u16::try_from(*port).ok()? }))
}

/// `?` stands for a host that the node does not know.
fn host_of(said: &str, asked: &str) -> Option<String> {
    match said {
        "?" => None,
        "" | "0.0.0.0" | "::" => Some(asked.to_owned()),
        host => Some(host.to_owned()),
    }
}

/// Where to ask instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Redirect {
    pub(super) to: Address,
    /// This once, while the slot moves.
    pub(super) once: bool,
}

impl Redirect {
    pub(super) fn parse(reply: &Result<Value, RedisError>, asked: &str) -> Option<Self> {
        let error = reply.as_ref().err()?;
        let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
        let to = Address { host: host_of(host, asked)?, port: port.parse().ok()? };
        Some(Self { to, once: error.code() == Some("ASK") })
    }
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    fn at(host: &str, port: u16) -> Address {
        Address { host: host.to_owned(), port }
    }

    #[test]
    fn a_key_is_in_the_slot_of_what_is_in_braces() {
        // From the specification of Redis clusters.
        assert_eq!(slot_of(b"123456789"), 0x31C3);
        assert_eq!(slot_of(b"{123456789}:due"), 0x31C3);
        assert_eq!(slot_of(b"a{123456789}b{c}"), 0x31C3);
    }

    #[test]
    fn a_node_that_does_not_know_its_host_has_that_which_was_asked() {
        let said = |host: &str| {
            let text = format!("*1\r\n*3\r\n:5\r\n:9\r\n*2\r\n{host}\r\n:7001\r\n");
            parse(parse_redis_value(text.as_bytes()).unwrap(), "asked")
        };
        let found = |host: &str| vec![(5..=9, at(host, 7001))];
        assert_eq!(said("$4\r\nnode"), found("node"));
        for unknown in ["$0\r\n", "$-1", "$7\r\n0.0.0.0", "$2\r\n::"] {
            assert_eq!(said(unknown), found("asked"), "{unknown:?}");
        }
        assert_eq!(said("$1\r\n?"), vec![]);
    }

    #[test]
    fn strange_replies_name_no_node() {
        for strange in [":1\r\n", "*1\r\n:1\r\n", "*1\r\n*2\r\n:1\r\n:2\r\n", "*1\r\n*3\r\n:-1\r\n:2\r\n*0\r\n"] {
            assert_eq!(parse(parse_redis_value(strange.as_bytes()).unwrap(), "asked"), vec![], "{strange:?}");
        }
    }

    #[test]
    fn redirects_say_where_and_for_how_long() {
        let redirect =
            |said: &str| Redirect::parse(&parse_redis_value(said.as_bytes()).unwrap().extract_error(), "asked");
        let to = |host: &str, once| Some(Redirect { to: at(host, 7001), once });
        assert_eq!(redirect("-MOVED 3999 127.0.0.1:7001\r\n"), to("127.0.0.1", false));
        assert_eq!(redirect("-ASK 3999 fe80::1:7001\r\n"), to("fe80::1", true));
        assert_eq!(redirect("-MOVED 3999 :7001\r\n"), to("asked", false));
        for none in ["-MOVED 3999\r\n", "-MOVED 3999 a:b\r\n", "-TRYAGAIN\r\n", "+OK\r\n"] {
            assert_eq!(redirect(none), None, "{none:?}");
        }
    }
}
