//! Keys, for any bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use tower_idempotency::core::{Fingerprint, IdempotencyKey, Key};

/// A key as RFC 9651 writes it.
fn quoted(key: &str) -> String {
    let escaped = key.replace('\\', r"\\").replace('"', r#"\""#);
    format!("\"{escaped}\"")
}

proptest! {
    #[test]
    fn any_bytes_are_a_key_or_an_error(bytes in vec(any::<u8>(), 0..600)) {
        if let Ok(key) = IdempotencyKey::parse(&bytes) {
            let key = key.as_str();
            prop_assert!((1..=255).contains(&key.len()));
            prop_assert!(key.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        }
    }

    #[test]
    fn almost_structured_fields_are_a_key_or_an_error(value in r#"[ "\\;=?:,a-c0-9()]{0,40}"#) {
        let _ = IdempotencyKey::parse(value.as_bytes());
        let _ = IdempotencyKey::parse(format!("\"{value}").as_bytes());
    }

    #[test]
    fn what_is_quoted_comes_back(key in "[ -~]{1,255}", parameter in "(;[a-z]{1,3}(=[0-9]{1,3})?){0,2}") {
        let value = quoted(&key) + &parameter;
        let parsed = IdempotencyKey::parse(value.as_bytes());
        prop_assert_eq!(parsed.as_ref().map(IdempotencyKey::as_str), Ok(key.as_str()));
    }

    #[test]
    fn what_is_bare_comes_back_and_is_what_is_quoted(key in r#"[!-+\--:<-\[\]-~&&[^"]][!#-+\--:<-\[\]-~]{0,254}"#) {
        let bare = IdempotencyKey::parse(key.as_bytes());
        prop_assert_eq!(bare.as_ref().map(IdempotencyKey::as_str), Ok(key.as_str()));
        prop_assert_eq!(bare, IdempotencyKey::parse(quoted(&key).as_bytes()));
    }

    #[test]
    fn a_parsed_key_parses_as_itself(bytes in vec(prop_oneof![Just(b'"'), Just(b'\\'), 0x20_u8..0x7f], 0..40)) {
        if let Ok(key) = IdempotencyKey::parse(&bytes) {
            let again = IdempotencyKey::parse(quoted(key.as_str()).as_bytes());
            prop_assert_eq!(again, Ok(key));
        }
    }

    #[test]
    fn no_two_scopes_and_keys_share_a_record(
        (one, other) in ("[a-c]{0,4}", "[a-c]{0,4}"),
        (scope, another) in ("[a-c]{0,4}", "[a-c]{0,4}"),
    ) {
        let key = |scope: &str, key: &str| {
            Key::new(scope, &IdempotencyKey::parse(format!("k{key}").as_bytes()).unwrap())
        };
        prop_assert_eq!(key(&scope, &one) == key(&another, &other), (&scope, &one) == (&another, &other));
    }

    #[test]
    fn no_two_lists_share_a_fingerprint(
        one in vec(vec(0_u8..3, 0..4), 0..4),
        other in vec(vec(0_u8..3, 0..4), 0..4),
    ) {
        let print = |list: &[Vec<u8>]| Fingerprint::of(list.iter().map(Vec::as_slice));
        prop_assert_eq!(print(&one) == print(&other), one == other);
    }
}
