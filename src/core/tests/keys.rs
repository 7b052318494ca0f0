//! Keys and fingerprints.

use crate::core::{Fingerprint, IdempotencyKey, InvalidKey, Key, StepKey};

fn parse(value: impl AsRef<[u8]>) -> Result<String, InvalidKey> {
    IdempotencyKey::parse(value.as_ref()).map(|key| key.as_str().to_owned())
}

#[track_caller]
fn accepts(value: impl AsRef<[u8]>, key: &str) {
    assert_eq!(parse(&value).as_deref(), Ok(key), "{:?}", String::from_utf8_lossy(value.as_ref()));
}

#[track_caller]
fn refuses(value: impl AsRef<[u8]>, error: InvalidKey) {
    assert_eq!(parse(&value), Err(error), "{:?}", String::from_utf8_lossy(value.as_ref()));
}

#[test]
fn quoted_and_bare_name_the_same_key() {
    for value in [&b"order-17"[..], b"\"order-17\"", b"  \"order-17\"  ", b" order-17 "] {
        accepts(value, "order-17");
    }
    accepts("\"8e03978e-40d5-43e8-bc93-6894a57f9324\"", "8e03978e-40d5-43e8-bc93-6894a57f9324");
    accepts("clkyoesmbgybucifusbbtdsbohtyuuwz", "clkyoesmbgybucifusbbtdsbohtyuuwz");
}

#[test]
fn case_and_inner_spaces_count() {
    assert_ne!(parse("\"Abc\""), parse("\"abc\""));
    accepts("\"a b\"", "a b");
    accepts("\" \"", " ");
    assert_ne!(parse("\" a\""), parse("\"a\""));
}

#[test]
fn only_quotes_and_backslashes_are_escaped() {
    accepts(r#""a\"b""#, "a\"b");
    accepts(r#""a\\b""#, "a\\b");
    for broken in [r#""a\x""#, r#""a\"#, r#""a\""#, r#""abc"#, r#"""#] {
        refuses(broken, InvalidKey::Syntax);
    }
}

#[test]
fn parameters_are_ignored() {
    for value in [r#""K";v=1;foo"#, r#""K";a"#, r#""K"; a="b""#, r#""K";a=?1;b=:YQ==:"#] {
        accepts(value, "K");
    }
    for broken in [r#""K";"#, r#""K";A"#, r#""K" ;a"#, r#""K";a="#] {
        refuses(broken, InvalidKey::Syntax);
    }
}

#[test]
fn an_item_is_not_a_list() {
    for list in ["\"a\", \"b\"", "\"a\",\"a\"", "\"a\"\"b\"", "\"K\" x", "a,b", "a, b", ",", "(\"a\")x y"] {
        refuses(list, InvalidKey::Syntax);
    }
}

#[test]
fn keys_of_every_length_are_kept_and_compared_as_they_came() {
    let key = |length: usize| IdempotencyKey::parse("k".repeat(length).as_bytes()).unwrap();
    for length in 1..=255 {
        assert_eq!(key(length).as_str(), "k".repeat(length));
        assert_eq!(key(length), IdempotencyKey::parse(format!("\"{}\"", "k".repeat(length)).as_bytes()).unwrap());
        assert_ne!(key(length), key(length % 255 + 1));
    }
}

#[test]
fn control_bytes_and_what_is_not_ascii_are_refused() {
    for byte in (0..=0x1f).chain(0x7f..=0xff) {
        refuses([b'"', b'a', byte, b'b', b'"'], InvalidKey::Syntax);
        refuses([b'a', byte, b'b'], InvalidKey::Syntax);
    }
    refuses("cl\u{e9}", InvalidKey::Syntax);
    refuses("\"cl\u{e9}\"", InvalidKey::Syntax);
}

#[test]
fn bare_keys_are_opaque() {
    for key in ["'OR'1'='1'--", "../../x", "a:b", "%s%n", "*", "?1", "12", ":YWJj:", "@1659578233", "{}", "a=b"] {
        accepts(key, key);
    }
    for ambiguous in ["a\"b", "a;b", "a\\b", "a b", "abc\"", "a\tb"] {
        refuses(ambiguous, InvalidKey::Syntax);
    }
}

#[test]
fn nothing_is_no_key() {
    for nothing in ["", " ", "   ", "\"\"", "  \"\"  ", "\"\";a=1"] {
        refuses(nothing, InvalidKey::Empty);
    }
}

#[test]
fn up_to_255_decoded_characters() {
    let (longest, longer) = ("k".repeat(255), "k".repeat(256));
    accepts(&longest, &longest);
    accepts(format!("\"{longest}\";a=1"), &longest);
    refuses(&longer, InvalidKey::TooLong);
    refuses(format!("\"{longer}\""), InvalidKey::TooLong);
    // Escapes count once, as what they stand for.
    accepts(format!("\"{}\"", r"\\".repeat(255)), &"\\".repeat(255));
    refuses(format!("\"{}\"", r"\\".repeat(256)), InvalidKey::TooLong);
}

#[test]
fn debug_does_not_show_the_key() {
    let key = IdempotencyKey::parse(b"jane@example.com").unwrap();
    assert_eq!(format!("{key:?}"), "IdempotencyKey(16 characters)");
    let stored = Key::new("jane", &key);
    assert_eq!(format!("{stored:?}").len(), 12);
    assert_eq!(format!("{stored}").len(), 64);
}

#[test]
fn scope_and_key_do_not_run_into_one_another() {
    let key = |scope: &str, key: &str| Key::new(scope, &IdempotencyKey::parse(key.as_bytes()).unwrap());
    assert_ne!(key("a", "bc"), key("ab", "c"));
    assert_ne!(key("", "abc"), key("abc", "abc"));
    assert_ne!(key("tenant-1", "k"), key("tenant-2", "k"));
    assert_eq!(key("a", "bc"), key("a", "bc"));
}

/// What a queue is called may be a tenant's name, too.
#[test]
fn a_runners_operation_is_never_a_requests() {
    let key = IdempotencyKey::parse(b"17").unwrap();
    for scope in ["", "jobs", "R", "K"] {
        let run = Key::of_runner(scope, &key);
        for tenant in ["", "jobs", "R", "K", "Rjobs", "\u{1}R\u{4}jobs", "\u{4}jobs"] {
            assert_ne!(run, Key::new(tenant, &key), "{scope:?} and {tenant:?}");
        }
    }
    assert_ne!(Key::of_runner("a", &key), Key::of_runner("b", &key));
}

#[test]
fn step_keys_never_change() {
    let key = Key::from_bytes([7; 32]);
    let golden = [
        ("charge", "1725df90c32d8e09afd5aa5665e7ffcd54dbe529"),
        ("", "f516da725b39d9fda6e4574cfb4eda8d5f834db3"),
        ("\u{1f9fe}", "6142596e8528badc34e1e0ee2dca2bc5ff82492a"),
    ];
    for (name, expected) in golden {
        assert_eq!(StepKey::new(&key, name).as_str(), expected, "{name:?}");
    }
    assert_ne!(StepKey::new(&key, "a"), StepKey::new(&Key::from_bytes([8; 32]), "a"));
    let uuid = StepKey::new(&key, "charge").to_uuid();
    assert_eq!(uuid.as_str(), "492301f7-9361-537a-9980-6ed34adcd818");
    assert_eq!(uuid.to_uuid(), uuid);
}

#[test]
fn stored_keys_and_fingerprints_never_change() {
    let key = Key::new("tenant-1", &IdempotencyKey::parse(b"order-17").unwrap());
    assert_eq!(key.to_string(), "ad97c027e1085eb3ef68d90e3479fa0ae94fc078cb5f4d530040107912052f32");
    let fingerprint = Fingerprint::of([b"POST".as_slice(), b"/payments", b"{}"]);
    assert_eq!(format!("{fingerprint:?}"), "7d1c33e0e454");
}

#[test]
fn no_two_lists_share_a_fingerprint() {
    let lists: [&[&[u8]]; 12] = [
        &[],
        &[b""],
        &[b"", b""],
        &[b"a"],
        &[b"a", b""],
        &[b"", b"a"],
        &[b"a", b"bc"],
        &[b"ab", b"c"],
        &[b"abc"],
        &[b"bc", b"a"],
        &[b"\x01\0\0\0\0\0\0\0a"],
        &[b"A"],
    ];
    for (n, one) in lists.iter().enumerate() {
        for (m, other) in lists.iter().enumerate() {
            let same = Fingerprint::of(one.iter().copied()) == Fingerprint::of(other.iter().copied());
            assert_eq!(same, n == m, "{one:?} and {other:?}");
        }
    }
}

fn trailing(fingerprint: Fingerprint, values: &[&str]) -> Fingerprint {
    fingerprint.with_trailers(values.iter().map(|value| (b"x-sum".as_slice(), value.as_bytes())))
}

/// By what both have, and by nothing else.
#[test]
fn fingerprints_match_if_the_parts_that_both_have_agree() {
    let first = || Fingerprint::of([b"POST".as_slice()]);
    let other = || Fingerprint::of([b"PATCH".as_slice()]);
    let gzip = [b"gzip".as_slice()];
    let (a, b) = (Some(b"a".as_slice()), Some(b"b".as_slice()));
    let table = [
        (first(), first(), true),
        (first(), other(), false),
        (first(), first().scheme_2(a, gzip), true),
        (first(), other().scheme_2(a, gzip), false),
        (first().scheme_2(a, []), first().scheme_2(a, []), true),
        (first().scheme_2(a, []), other().scheme_2(a, []), false),
        (first().scheme_2(a, []), first().scheme_2(b, []), false),
        (first().scheme_2(a, []), first().scheme_2(Some(b""), []), false),
        (first().scheme_2(a, []), first().scheme_2(None, []), true),
        (first().scheme_2(a, gzip), first().scheme_2(a, []), false),
        (first().scheme_2(a, gzip), first().scheme_2(None, gzip), true),
        (first().scheme_2(a, gzip), first().scheme_2(None, []), false),
        (first().scheme_2(a, []), trailing(first().scheme_2(a, []), &["1"]), true),
        (first(), trailing(first().scheme_2(a, []), &["1"]), true),
        (trailing(first(), &["1"]), trailing(first().scheme_2(a, []), &["1"]), true),
        (trailing(first(), &["1"]), trailing(first().scheme_2(a, []), &["2"]), false),
        (trailing(first(), &["1"]), trailing(first(), &["1", "1"]), false),
        (trailing(first(), &[]), trailing(first(), &["1"]), true),
        (trailing(first(), &["1"]), trailing(other(), &["1"]), false),
        (trailing(first().scheme_2(a, []), &["1"]), trailing(first().scheme_2(b, []), &["1"]), false),
    ];
    for (n, (one, other, expected)) in table.into_iter().enumerate() {
        assert_eq!((one.matches(&other), other.matches(&one)), (expected, expected), "{n}");
    }
    assert_ne!(first(), first().scheme_2(None, []), "equal is more than a match");
    assert_ne!(first(), trailing(first(), &["1"]), "equal is more than a match");
    assert_eq!((first().scheme(), first().scheme_2(a, []).scheme()), (1, 2));
}

/// By the digest of rules where both have the same ones, else by the first digest.
#[test]
fn fingerprints_by_the_same_rules_match_by_these() {
    let [first, other] = [b"one".as_slice(), b"other"].map(|body| move || Fingerprint::of([body]));
    let ruled = |sent: Fingerprint, rules: u32, digest: &str| sent.with_rules(rules, [digest.as_bytes()]);
    let table = [
        (ruled(first(), 1, "a"), ruled(first(), 1, "a"), true),
        (ruled(first(), 1, "a"), ruled(other(), 1, "a"), true),
        (ruled(first(), 1, "a"), ruled(first(), 1, "b"), false),
        (ruled(first(), 1, "a"), ruled(first(), 2, "b"), true),
        (ruled(first(), 1, "a"), ruled(other(), 2, "a"), false),
        (ruled(first(), 1, "a"), ruled(other(), 0, "a"), false),
        (ruled(first(), 1, "a"), first(), true),
        (ruled(first(), 1, "other"), other(), false),
        // By those of number 0, either digest will do, and the first one is theirs too.
        (ruled(first(), 0, "a"), ruled(other(), 0, "a"), true),
        (ruled(first(), 0, "a"), ruled(first(), 0, "b"), true),
        (ruled(first(), 0, "a"), ruled(other(), 0, "b"), false),
        (ruled(first(), 0, "other"), other(), true),
        (ruled(first(), 0, "a"), other(), false),
        (ruled(first(), 0, "a"), first(), true),
        (ruled(first(), 1, "a").scheme_2(Some(b"a"), []), ruled(other(), 1, "a").scheme_2(Some(b"b"), []), false),
        (trailing(ruled(first(), 1, "a"), &["1"]), trailing(ruled(other(), 1, "a"), &["2"]), false),
    ];
    for (n, (one, other, expected)) in table.into_iter().enumerate() {
        assert_eq!((one.matches(&other), other.matches(&one)), (expected, expected), "{n}");
    }
    assert_ne!(first(), ruled(first(), 1, "a"), "equal is more than a match");
}

#[test]
fn fingerprints_differ_in_any_bit() {
    let one = Fingerprint::from_bytes([0; 32]);
    for bit in 0..256 {
        let mut bytes = [0; 32];
        bytes[bit / 8] = 1 << (bit % 8);
        assert_ne!(one, Fingerprint::from_bytes(bytes));
    }
}
