//! One key for all tries of a call.

use std::time::{SystemTime, UNIX_EPOCH};

use http::header::HeaderValue;
use http::request::Parts;

use super::error::ClientErrorKind;
use super::policy::Policy;
use super::verdict::needs_key;
use crate::core::{IdempotencyKey, InvalidKey, quoted, uuid};
use crate::util::nonce::fresh_nonce;

/// The key that is sent with a request, which carries it from now on. `None` if it needs none,
/// and has none.
pub(super) fn put_key(head: &mut Parts, policy: &Policy) -> Result<Option<IdempotencyKey>, ClientErrorKind> {
    let mut lines = head.headers.get_all(&policy.key_header).iter();
    match (lines.next(), lines.next()) {
        (Some(_), Some(_)) => return Err(ClientErrorKind::InvalidKey(InvalidKey::Twice)),
        (Some(line), None) => {
            return IdempotencyKey::parse(line.as_bytes()).map(Some).map_err(ClientErrorKind::InvalidKey);
        }
        (None, _) => {}
    }
    let (key, line) = match head.extensions.get::<IdempotencyKey>() {
        Some(key) => (key.clone(), written(key, policy.quotes_keys)?),
        None if !needs_key(&head.method) => return Ok(None),
        None => fresh(policy.quotes_keys)?,
    };
    head.headers.insert(policy.key_header.clone(), line);
    Ok(Some(key))
}

/// A key as it stands in its header.
fn written(key: &IdempotencyKey, with_quotes: bool) -> Result<HeaderValue, ClientErrorKind> {
    let can_be_bare = || IdempotencyKey::parse(key.as_str().as_bytes()).is_ok_and(|read| read == *key);
    line(key.as_str(), with_quotes || !can_be_bare())
}

fn line(key: &str, has_quotes: bool) -> Result<HeaderValue, ClientErrorKind> {
    let line = if has_quotes { HeaderValue::try_from(quoted(key)) } else { HeaderValue::from_str(key) };
    line.map_err(|_| ClientErrorKind::InvalidKey(InvalidKey::Syntax))
}

/// A UUID of version 7 (RFC 9562 §5.7): the time to a quarter of a microsecond (§6.2, method 3),
/// and 62 bits of the system's randomness.
fn fresh(with_quotes: bool) -> Result<(IdempotencyKey, HeaderValue), ClientErrorKind> {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let below_a_milli = u128::from(time.subsec_nanos() % 1_000_000) * 4096 / 1_000_000;
    let bytes = time.as_millis() << 80 | below_a_milli << 64 | u128::from(fresh_nonce().get());
    let text = uuid(7, bytes.to_be_bytes());
    let line = line(&text, with_quotes)?;
    Ok((IdempotencyKey::of_text(text), line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_a_uuid_of_version_7_and_unlike_all_others() {
        let keys: Vec<_> = (0..1000).map(|_| fresh(false).unwrap().0).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        for key in &keys {
            let text = key.as_str();
            let places: Vec<_> = text.match_indices('-').map(|(at, _)| at).collect();
            assert_eq!((text.len(), &*places), (36, [8, 13, 18, 23].as_slice()), "{text}");
            assert!(&text[14..15] == "7" && "89ab".contains(&text[19..20]), "{text}");
            let time = u128::from_str_radix(&text.replace('-', "")[..12], 16).unwrap();
            assert!((now - 60_000..=now).contains(&time), "{text}");
        }
        let tails: std::collections::HashSet<_> = keys.iter().map(|key| &key.as_str()[15..]).collect();
        assert_eq!(tails.len(), keys.len());
    }

    #[test]
    fn a_key_has_quotes_where_it_needs_them() {
        let key = |text: &str| IdempotencyKey::parse(text.as_bytes()).unwrap();
        assert_eq!(written(&key("order-17"), false).unwrap(), "order-17");
        assert_eq!(written(&key("order-17"), true).unwrap(), "\"order-17\"");
        for odd in [r#""a b""#, r#""a,b""#, r#""a\"b""#, r#""a\\b""#, r#"" a ""#] {
            assert_eq!(written(&key(odd), false).unwrap(), odd);
        }
    }
}
