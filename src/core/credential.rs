//! Which header fields are taken for credentials.

use http::header::HeaderName;

/// A name with one of these words is a credential's. A word is what stands between
/// dashes or underscores.
const WORDS: [&str; 38] = [
    "accesstoken",
    "apikey",
    "apikeys",
    "auth",
    "authenticate",
    "authentication",
    "authorization",
    "authtoken",
    "bearer",
    "cert",
    "certificate",
    "cookie",
    "cookie2",
    "credential",
    "credentials",
    "csrf",
    "csrftoken",
    "dpop",
    "idtoken",
    "jwt",
    "otp",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "refreshtoken",
    "secret",
    "secretkey",
    "secrets",
    "session",
    "sessionid",
    "sessiontoken",
    "signature",
    "sso",
    "totp",
    "xsrf",
    "xsrftoken",
];
/// What is a credential before the word `key` or `keys`: `X-Api-Key`, and not
/// `X-Partition-Key`.
const KEYS: [&str; 12] = [
    "access",
    "api",
    "encryption",
    "functions",
    "idempotency",
    "license",
    "master",
    "private",
    "rapidapi",
    "secret",
    "signing",
    "subscription",
];
/// What is a credential before the word `tokens`. A `token` is one where it is the
/// last word: `X-Vault-Token`, and not `X-Token-Count`.
const TOKENS: [&str; 6] = ["access", "auth", "csrf", "id", "refresh", "session"];

/// Whether a field of this name is taken for a credential, and not kept.
pub(super) fn is_credential(name: &HeaderName) -> bool {
    let mut before = "";
    let mut words = name.as_str().split(['-', '_']).peekable();
    while let Some(word) = words.next() {
        let is_last = words.peek().is_none();
        let is_one = WORDS.binary_search(&word).is_ok()
            || (matches!(word, "key" | "keys") && KEYS.contains(&before))
            || (word == "tokens" && TOKENS.contains(&before))
            || (is_last && word == "token");
        if is_one {
            return true;
        }
        before = word;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{KEYS, TOKENS, WORDS};

    /// Sorted, so that they are found; and in the documents of what is kept.
    #[test]
    fn the_lists_are_sorted_and_documented() {
        let docs = include_str!("message.rs");
        for list in [&WORDS[..], &KEYS[..], &TOKENS[..]] {
            assert!(list.is_sorted(), "{list:?}");
            for word in list {
                assert!(docs.contains(&format!("`{word}`")), "{word} stands in no document");
            }
        }
    }
}
