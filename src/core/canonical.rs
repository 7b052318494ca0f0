//! One spelling for what means the same in JSON.

use std::borrow::Cow;

use super::json::spelled;

/// JSON as it is to be hashed: members in the order of RFC 8785 §3.2.3, strings
/// with the escapes of its §3.2.2.2, no white space. Numbers are written by their
/// exact value, so `1.0` is `1`, and two amounts are never the same because a
/// double can't tell them apart: there this is stricter than RFC 8785.
///
/// Of a text that is not JSON, or has two members of one name, the bytes count.
pub(crate) fn canonical(json: &[u8]) -> Cow<'_, [u8]> {
    spelled(json).map_or(Cow::Borrowed(json), Cow::Owned)
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
