//! Which header values are keys of this service.

use std::fmt;
use std::sync::Arc;

use crate::core::{IdempotencyKey, InvalidKey};

type Check = dyn Fn(&str) -> Result<(), &'static str> + Send + Sync;

/// The longest key of all, in characters: [`IdempotencyKey::parse`] takes no longer one.
const LONGEST: usize = 255;

/// Which header values are keys: by default those that [`IdempotencyKey::parse`] takes, from 1
/// to 255 characters. The layer refuses a value that breaks a rule with 400 `invalid-key`, and
/// runs nothing; the reason is in
/// [`Refusal::InvalidKey`](crate::Refusal::InvalidKey).
///
/// The IETF draft (§5) recommends that servers publish a fixed format, and validate keys
/// against it before anything else.
///
/// ```
/// use tower_idempotency::core::InvalidKey;
/// use tower_idempotency::{IdempotencyLayer, KeyRules, Scope, store::MemoryStore};
///
/// let rules = KeyRules::new()
///     .strict()
///     .min_length(20)
///     .max_length(64)
///     .check(|key| if key.starts_with("order-") { Ok(()) } else { Err("a key begins with order-") });
/// assert!(rules.parse(br#""order-00000000000017""#).is_ok());
/// assert_eq!(rules.parse(b"order-00000000000017"), Err(InvalidKey::NotQuoted));
/// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>()).key_rules(rules);
/// ```
#[derive(Clone)]
#[must_use]
pub struct KeyRules {
    is_strict: bool,
    is_uuid: bool,
    ignores_case: bool,
    min: usize,
    max: usize,
    check: Option<Arc<Check>>,
}

impl KeyRules {
    /// The default: lenient. Quoted strings (RFC 9651) and bare tokens are keys, and
    /// `"K"` and `K` are the same one, since most clients send the bare form.
    pub fn new() -> Self {
        Self { is_strict: false, is_uuid: false, ignores_case: false, min: 1, max: LONGEST, check: None }
    }

    /// Takes quoted strings only, as the IETF draft §2.1 has it (RFC 9651 §3.3.3).
    ///
    /// # Caveats
    ///
    /// Most clients send their keys bare, and then get a 400.
    pub const fn strict(mut self) -> Self {
        self.is_strict = true;
        self
    }

    /// Takes UUIDs only: 36 characters, of any version, in either case (RFC 9562 §4).
    /// The same UUID in another case is another key, unless
    /// [`ignore_case`](Self::ignore_case) is set.
    ///
    /// ```
    /// use tower_idempotency::KeyRules;
    /// use tower_idempotency::core::InvalidKey;
    ///
    /// let rules = KeyRules::new().uuid();
    /// assert!(rules.parse(b"8e03978e-40d5-43e8-bc93-6894a57f9324").is_ok());
    /// assert_eq!(rules.parse(b"order-17"), Err(InvalidKey::NotUuid));
    /// ```
    pub const fn uuid(mut self) -> Self {
        self.is_uuid = true;
        self
    }

    /// Makes a key the same key in upper and in lower case. By default case counts. Handlers
    /// and [`check`](Self::check) see it in lower case, and an
    /// [`Operator`](crate::Operator) finds it so.
    ///
    /// ```
    /// use tower_idempotency::KeyRules;
    ///
    /// let rules = KeyRules::new().ignore_case();
    /// assert_eq!(rules.parse(b"Order-17"), rules.parse(b"oRDER-17"));
    /// ```
    ///
    /// # Caveats
    ///
    /// A key that was accepted in upper case before is another one with this setting: its
    /// retry runs anew.
    pub const fn ignore_case(mut self) -> Self {
        self.ignores_case = true;
        self
    }

    /// The fewest characters of a key, without quotes: 1 by default. Less than 1 is 1,
    /// more than 255 is 255, and a [`max_length`](Self::max_length) below is raised to it.
    pub fn min_length(mut self, characters: usize) -> Self {
        self.min = characters.clamp(1, LONGEST);
        self.max = self.max.max(self.min);
        self
    }

    /// The most characters of a key, without quotes: 255 by default, which is Stripe's
    /// limit. Less than 1 is 1, more than 255 is 255, and a
    /// [`min_length`](Self::min_length) above is lowered to it.
    pub fn max_length(mut self, characters: usize) -> Self {
        self.max = characters.clamp(1, LONGEST);
        self.min = self.min.min(self.max);
        self
    }

    /// Your own rule, about the key without quotes. The layer calls it after all others.
    /// Its error is the `detail` of the problem that the client gets.
    ///
    /// # Caveats
    ///
    /// It runs for every request with a key, before the layer reads or stores anything: it
    /// must not block.
    pub fn check(mut self, check: impl Fn(&str) -> Result<(), &'static str> + Send + Sync + 'static) -> Self {
        self.check = Some(Arc::new(check));
        self
    }

    /// The key as it counts.
    pub(crate) fn folded(&self, key: IdempotencyKey) -> IdempotencyKey {
        if self.ignores_case { key.to_lower_case() } else { key }
    }

    /// Parses one header value by these rules.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`] says which rule it breaks.
    pub fn parse(&self, value: &[u8]) -> Result<IdempotencyKey, InvalidKey> {
        if self.is_strict {
            // RFC 9651 §4.2 discards spaces, and nothing else.
            let first = value.iter().find(|byte| **byte != b' ');
            if first.is_some_and(|byte| *byte != b'"') || value.contains(&b'\t') {
                return Err(InvalidKey::NotQuoted);
            }
        }
        let key = self.folded(IdempotencyKey::parse(value)?);
        let text = key.as_str();
        if text.len() < self.min {
            return Err(InvalidKey::TooShort);
        }
        if text.len() > self.max {
            return Err(InvalidKey::TooLong);
        }
        if self.is_uuid && !is_uuid(text) {
            return Err(InvalidKey::NotUuid);
        }
        if let Some(check) = &self.check {
            check(text).map_err(InvalidKey::Rejected)?;
        }
        Ok(key)
    }
}

/// Only how it is written: whichever version it has, it is as good a key.
fn is_uuid(text: &str) -> bool {
    let is_dash = |at| matches!(at, 8 | 13 | 18 | 23);
    let fits = |(at, byte): (usize, u8)| if is_dash(at) { byte == b'-' } else { byte.is_ascii_hexdigit() };
    text.len() == 36 && text.bytes().enumerate().all(fits)
}

impl Default for KeyRules {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for KeyRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRules")
            .field("is_strict", &self.is_strict)
            .field("is_uuid", &self.is_uuid)
            .field("ignores_case", &self.ignores_case)
            .field("min", &self.min)
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}
