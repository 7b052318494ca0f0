//! Which header fields are taken for credentials.

use http::header::{CONTENT_TYPE, HeaderName};

/// A name with one of these words is a credential's. A word is what stands between
/// dashes or underscores.
fn is_word(word: &str) -> bool {
    matches!(
        word,
        "accesstoken"
            | "apikey"
            | "apikeys"
            | "auth"
            | "authenticate"
            | "authentication"
            | "authorization"
            | "authtoken"
            | "bearer"
            | "cert"
            | "certificate"
            | "cookie"
            | "cookie2"
            | "credential"
            | "credentials"
            | "csrf"
            | "csrftoken"
            | "dpop"
            | "idtoken"
            | "jwt"
            | "otp"
            | "passcode"
            | "passphrase"
            | "passwd"
            | "password"
            | "privatekey"
            | "refreshtoken"
            | "secret"
            | "secretkey"
            | "secrets"
            | "session"
            | "sessionid"
            | "sessiontoken"
            | "signature"
            | "sso"
            | "totp"
            | "xsrf"
            | "xsrftoken"
    )
}

/// What is a credential before the word `key` or `keys`: `X-Api-Key`, and not
/// `X-Partition-Key`.
const KEYS: [&str; 17] = [
    "access",
    "account",
    "admin",
    "api",
    "app",
    "application",
    "customer",
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

/// What is none before that: `X-Next-Page-Token`.
const PLACES: [&str; 3] = ["continuation", "page", "sync"];

/// Whether a field of this name is taken for a credential, and not kept.
pub(super) fn is_credential(name: &HeaderName) -> bool {
    // Nearly every message has it: it need not be read word by word.
    if *name == CONTENT_TYPE {
        return false;
    }
    let mut before = "";
    let mut words = name.as_str().split(['-', '_']).peekable();
    while let Some(word) = words.next() {
        let is_last = words.peek().is_none();
        let is_one = is_word(word)
            || (matches!(word, "key" | "keys") && KEYS.contains(&before))
            || (word == "tokens" && TOKENS.contains(&before))
            || (is_last && word == "token" && !PLACES.contains(&before))
            || (word == "data" && before == "oidc");
        if is_one {
            return true;
        }
        before = word;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{KEYS, PLACES, TOKENS, is_word};

    /// The documents of what is kept name each of them.
    #[test]
    fn the_lists_are_documented() {
        let docs = include_str!("message.rs");
        for word in KEYS.into_iter().chain(TOKENS).chain(PLACES) {
            assert!(docs.contains(&format!("`{word}`")), "{word} stands in no document");
        }
        let source = include_str!("credential.rs");
        let words: Vec<_> = source.split('"').skip(1).step_by(2).take_while(|word| *word != "access").collect();
        assert!(words.len() > 30 && words.is_sorted(), "{words:?}");
        for word in words {
            assert!(is_word(word) && docs.contains(&format!("`{word}`")), "{word} stands in no document");
        }
    }
}
