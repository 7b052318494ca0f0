//! One spelling for what means the same in JSON.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Deeper than serde_json reads: such a text is left as it is.
const DEEPEST: usize = 128;

/// JSON as it is to be hashed: members in the order of RFC 8785 §3.2.3, strings
/// with the escapes of its §3.2.2.2, no white space. Numbers are written by their
/// exact value, so `1.0` is `1`, and two amounts are never the same because a
/// double can't tell them apart: there this is stricter than RFC 8785.
///
/// A text with two members of one name, or that is no JSON, means what its bytes
/// are.
pub(crate) fn canonical(json: &[u8]) -> Cow<'_, [u8]> {
    let mut written = Vec::with_capacity(json.len());
    let value = serde_json::from_slice::<&RawValue>(json).ok();
    match value.and_then(|value| write(value, &mut written, 0)) {
        Some(()) => Cow::Owned(written),
        None => Cow::Borrowed(json),
    }
}

fn write(value: &RawValue, written: &mut Vec<u8>, depth: usize) -> Option<()> {
    if depth > DEEPEST {
        return None;
    }
    let text = value.get();
    match text.as_bytes().first()? {
        b'{' => write_object(text, written, depth),
        b'[' => {
            let values: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            write_list(written, *b"[]", values, |value, written| write(value, written, depth + 1))
        }
        b'"' => write_string(&serde_json::from_str::<String>(text).ok()?, written),
        b'-' | b'0'..=b'9' => write_number(text, written),
        // true, false, null
        _ => {
            written.extend_from_slice(text.as_bytes());
            Some(())
        }
    }
}

fn write_object(text: &str, written: &mut Vec<u8>, depth: usize) -> Option<()> {
    let Members(mut members) = serde_json::from_str(text).ok()?;
    members.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
    if members.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return None;
    }
    write_list(written, *b"{}", members, |(name, value), written| {
        write_string(&name, written)?;
        written.push(b':');
        write(value, written, depth + 1)
    })
}

fn write_list<T>(
    written: &mut Vec<u8>,
    [open, close]: [u8; 2],
    items: Vec<T>,
    write: impl Fn(T, &mut Vec<u8>) -> Option<()>,
) -> Option<()> {
    written.push(open);
    for (n, item) in items.into_iter().enumerate() {
        if n > 0 {
            written.push(b',');
        }
        write(item, written)?;
    }
    written.push(close);
    Some(())
}

fn write_string(text: &str, written: &mut Vec<u8>) -> Option<()> {
    serde_json::to_writer(written, text).ok()
}

/// Significant digits, and the power of ten behind them.
fn write_number(text: &str, written: &mut Vec<u8>) -> Option<()> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = [whole, fraction].concat();
    let digits = all.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        // There is one zero: RFC 8785 has no negative one either.
        written.push(b'0');
        return Some(());
    }
    let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
    let exponent = exponent.parse::<i64>().ok()?.checked_add(zeros)?;
    let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    written.extend_from_slice(sign.as_bytes());
    written.extend_from_slice(significant.as_bytes());
    if exponent != 0 {
        written.extend_from_slice(format!("e{exponent}").as_bytes());
    }
    Some(())
}

/// The members of an object, all of them, in their order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(All)
    }
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[track_caller]
    fn is(json: &str, expected: &str) {
        assert_eq!(String::from_utf8_lossy(&canonical(json.as_bytes())), expected, "{json}");
    }

    #[test]
    fn members_have_one_order_and_one_spelling() {
        is(r#" { "b" : [ 1 , {"d":true,"c":null} ] , "a" : "x" } "#, r#"{"a":"x","b":[1,{"c":null,"d":true}]}"#);
        is(r#"{"\u0061":"\u00e9\/\u000A\u001f"}"#, "{\"a\":\"\u{e9}/\\n\\u001f\"}");
        // By UTF-16 code units, as RFC 8785 has it: the emoji's first is D83D.
        is("{\"\u{fb33}\":1,\"\u{1f600}\":2,\"\u{20ac}\":3}", "{\"\u{20ac}\":3,\"\u{1f600}\":2,\"\u{fb33}\":1}");
        is("[]", "[]");
        is("{}", "{}");
    }

    #[test]
    fn numbers_are_their_exact_value() {
        for one in ["1", "1.0", "1e0", "10e-1", "0.1E1", "1.000"] {
            is(one, "1");
        }
        for zero in ["0", "-0", "0.0", "-0e9"] {
            is(zero, "0");
        }
        is("1999", "1999");
        is("-0.50", "-5e-1");
        is("100", "1e2");
        // Beyond what a double can tell apart.
        is("9007199254740993", "9007199254740993");
        is("9007199254740992", "9007199254740992");
        is("0.1000000000000000055", "1000000000000000055e-19");
        is("123456789012345678901234567890", "12345678901234567890123456789e1");
    }

    #[test]
    fn what_has_no_meaning_of_its_own_stays_as_it_is() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for raw in [
            r#"{"a":1,"a":2}"#,
            r#"{"b":{"a":1,"\u0061":1}}"#,
            "{",
            "",
            "1 2",
            r#""\ud800""#,
            "1e99999999999999999999",
            &deep,
        ] {
            is(raw, raw);
        }
    }
}
