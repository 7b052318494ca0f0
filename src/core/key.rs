//! What names an operation: the client's key, the store's key, a step's key.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};

use http::Method;
use sfv::visitor::{Ignored, ItemVisitor, ParameterVisitor};
use sfv::{BareItemFromInput, Parser};

use super::hash::{Hex, digest, short};
use super::text::Text;

/// The longest key that is accepted, in characters. Stripe's limit.
const MAX_LEN: usize = 255;

/// A client's idempotency key, parsed and unquoted.
///
/// The header is an RFC 9651 String in the IETF draft, and a bare token with
/// most clients. Both are accepted and name the same key: a value that starts
/// with `"` is parsed as a structured field (parameters are ignored, RFC 9651
/// §2.3), anything else is taken as it is. Keys are case-sensitive.
///
/// ```
/// use tower_idempotency::core::IdempotencyKey;
///
/// let quoted = IdempotencyKey::parse(br#""order-17""#)?;
/// let bare = IdempotencyKey::parse(b"order-17")?;
/// assert_eq!(quoted, bare);
/// assert!(IdempotencyKey::parse(b"a,b").is_err());
/// # Ok::<_, tower_idempotency::core::InvalidKey>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Text);

impl IdempotencyKey {
    /// Parses one header value.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`] if the value is empty, longer than 255 characters, not
    /// visible ASCII, or broken structured-field syntax. RFC 9651 §4.2 would
    /// also allow a server to ignore such a field; that would run the request without
    /// protection, so the layer never does it.
    pub fn parse(value: &[u8]) -> Result<Self, InvalidKey> {
        let value = value.trim_ascii();
        let key = match value.first() {
            None => return Err(InvalidKey::Empty),
            Some(b'"') => unquote(value)?,
            Some(_) => bare(value)?.into(),
        };
        match key.len() {
            0 => Err(InvalidKey::Empty),
            1..=MAX_LEN => Ok(Self(Text::new(&key))),
            _ => Err(InvalidKey::TooLong),
        }
    }

    /// A key of a client's own: derived from what the client calls the operation, and from
    /// nothing else, so that a client which was restarted sends the same one. `kind` says what
    /// is done, `id` to what: two kinds of operations about one order are two keys. 40
    /// hexadecimal characters, from which neither can be read.
    ///
    /// ```
    /// use tower_idempotency::core::IdempotencyKey;
    ///
    /// let key = IdempotencyKey::derived("capture", "order-17");
    /// assert_eq!(key, IdempotencyKey::derived("capture", "order-17"));
    /// assert_ne!(key, IdempotencyKey::derived("refund", "order-17"));
    /// assert_eq!(key.as_str().len(), 40);
    /// ```
    pub fn derived(kind: &str, id: &str) -> Self {
        Self(Text::new(&short(b"C", [kind.as_bytes(), id.as_bytes()])))
    }

    /// A key of a form that is known to be valid.
    #[cfg(feature = "client")]
    pub(crate) fn of_text(text: impl AsRef<str>) -> Self {
        Self(Text::new(text.as_ref()))
    }

    /// The same key for every case of its letters.
    pub(crate) fn to_lower_case(&self) -> Self {
        Self(Text::new(&self.as_str().to_ascii_lowercase()))
    }

    /// The key's characters, without quotes.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// This text as a string of RFC 9651.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Keys may carry personal data, so `Debug` shows the length only.
impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdempotencyKey({} characters)", self.as_str().len())
    }
}

/// Visible ASCII, less four characters. A table, for every request pays for each
/// byte of its key.
const IN_BARE_KEYS: [bool; 256] = {
    let (mut allowed, mut byte) = ([false; 256], b'!');
    while byte <= b'~' {
        allowed[byte as usize] = !matches!(byte, b'"' | b',' | b';' | b'\\');
        byte += 1;
    }
    allowed
};

fn bare(value: &[u8]) -> Result<&str, InvalidKey> {
    // Without an early exit, which would cost a jump for each byte.
    if !value.iter().fold(true, |all, byte| all & IN_BARE_KEYS[usize::from(*byte)]) {
        return Err(InvalidKey::Syntax);
    }
    str::from_utf8(value).map_err(|_| InvalidKey::Syntax)
}

fn unquote(value: &[u8]) -> Result<Cow<'_, str>, InvalidKey> {
    // Most keys are UUIDs in quotes: nothing in them means anything else to RFC 9651.
    if let [b'"', inner @ .., b'"'] = value
        && let Ok(text) = bare(inner)
    {
        return Ok(text.into());
    }
    parsed(value).map(Cow::Owned)
}

fn parsed(value: &[u8]) -> Result<String, InvalidKey> {
    let mut found = Unquoted(None);
    Parser::new(value).parse_item_with_visitor(&mut found).map_err(|_| InvalidKey::Syntax)?;
    found.0.ok_or(InvalidKey::Syntax)
}

struct Unquoted(Option<String>);

impl<'de> ItemVisitor<'de> for &mut Unquoted {
    type Error = std::convert::Infallible;

    fn bare_item(self, item: BareItemFromInput<'de>) -> Result<impl ParameterVisitor<'de>, Self::Error> {
        if let BareItemFromInput::String(text) = item {
            self.0 = Some(text.as_str().to_owned());
        }
        Ok(Ignored)
    }
}

/// Why a header value is not an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvalidKey {
    /// Nothing but white space, or an empty string.
    Empty,
    /// Neither an RFC 9651 String nor a bare token of visible ASCII.
    Syntax,
    /// More than 255 characters, or than
    /// [`KeyRules::max_length`](crate::KeyRules::max_length) allows.
    TooLong,
    /// Fewer characters than [`KeyRules::min_length`](crate::KeyRules::min_length) asks for.
    TooShort,
    /// Not a quoted string, and [`KeyRules::strict`](crate::KeyRules::strict) asks for one.
    NotQuoted,
    /// Not a UUID, and [`KeyRules::uuid`](crate::KeyRules::uuid) asks for one.
    NotUuid,
    /// The request has two lines with a key, or two members in its body.
    Twice,
    /// The [member](crate::KeyMember) of the body is not a string.
    NotString,
    /// The header and the [member](crate::KeyMember) of the body are different keys.
    Differs,
    /// The error of [`KeyRules::check`](crate::KeyRules::check).
    Rejected(&'static str),
}

impl InvalidKey {
    /// The `detail` of the problem that the client gets.
    pub(crate) const fn detail(self) -> &'static str {
        match self {
            Self::Empty | Self::Syntax | Self::Twice => {
                "Send one Idempotency-Key header: a quoted string (RFC 9651) or a bare token of 1 to 255 visible ASCII characters."
            }
            Self::TooLong => "The Idempotency-Key is longer than this operation accepts.",
            Self::TooShort => "The Idempotency-Key is shorter than this operation accepts.",
            Self::NotQuoted => {
                "Send one Idempotency-Key header whose value is a quoted string (RFC 9651): in double quotes."
            }
            Self::NotUuid => "The Idempotency-Key of this operation is a UUID (RFC 9562) of 36 characters.",
            Self::NotString => "The idempotency key in the body has to be a string.",
            Self::Differs => {
                "The Idempotency-Key header and the key in the body are different: send the same one, or one of them."
            }
            Self::Rejected(why) => why,
        }
    }
}

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the idempotency key is empty",
            Self::Syntax => {
                "the idempotency key is neither a quoted string (RFC 9651) nor a bare token of visible ASCII"
            }
            Self::TooLong => "the idempotency key is longer than 255 characters, or than the rules allow",
            Self::TooShort => "the idempotency key is shorter than the rules allow",
            Self::NotQuoted => "the idempotency key is not a quoted string (RFC 9651)",
            Self::NotUuid => "the idempotency key is not a UUID of 36 characters",
            Self::Twice => "the request has two idempotency keys",
            Self::NotString => "the idempotency key in the body is not a string",
            Self::Differs => "the idempotency keys in header and body differ",
            Self::Rejected(why) => why,
        })
    }
}

impl std::error::Error for InvalidKey {}

/// The name of a record: `SHA-256(length-prefixed scope, key)`.
///
/// It reveals neither the scope nor the client's key, and no two
/// (scope, key) pairs share one; nor do a request and an operation of a
/// [`Runner`](crate::Runner). Logs and events show it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key([u8; 32]);

/// It is SHA-256's output: eight bytes of it fall as evenly as all of them, and two keys
/// that share eight cost a table a comparison.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
    }
}

impl Key {
    /// The key whose hash is written so.
    pub(crate) fn from_hex(hash: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if hash.len() != 2 * bytes.len() || !hash.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&hash[at..at + 2], 16).ok()?;
        }
        Some(Self::from_bytes(bytes))
    }

    /// Derives the key of a request with this `idempotency_key` within `scope`.
    pub fn new(scope: &str, idempotency_key: &IdempotencyKey) -> Self {
        Self::derive(b"K", scope, idempotency_key)
    }

    /// Derives the key of a [`Runner`](crate::Runner)'s operation. It is never
    /// that of a request, whatever the scope: a tenant who is called as a queue
    /// is neither reads nor blocks the queue's operations.
    ///
    /// ```
    /// use tower_idempotency::core::{IdempotencyKey, Key};
    ///
    /// let key = IdempotencyKey::parse(b"17")?;
    /// assert_ne!(Key::of_runner("jobs", &key), Key::new("jobs", &key));
    /// # Ok::<_, tower_idempotency::core::InvalidKey>(())
    /// ```
    pub fn of_runner(scope: &str, idempotency_key: &IdempotencyKey) -> Self {
        Self::derive(b"R", scope, idempotency_key)
    }

    /// Derives the key of a request to this endpoint, where keys count
    /// [per route](crate::Scope::per_route). It is never that of another endpoint, and
    /// never one that counts for all of them.
    ///
    /// ```
    /// use http::Method;
    /// use tower_idempotency::core::{IdempotencyKey, Key};
    ///
    /// let key = IdempotencyKey::parse(b"17")?;
    /// let key_of = |route| Key::of_route(&Method::POST, route, "ann", &key);
    /// assert_ne!(key_of("/payments"), key_of("/refunds"));
    /// # Ok::<_, tower_idempotency::core::InvalidKey>(())
    /// ```
    pub fn of_route(method: &Method, route: &str, scope: &str, idempotency_key: &IdempotencyKey) -> Self {
        let parts = [method.as_str(), route, scope, idempotency_key.as_str()];
        Self(digest(b"E", parts.map(str::as_bytes)))
    }

    /// Derives the key of a control record: what all processes over one store read, and no
    /// operation. It begins with eight bytes of zero, by which tools can
    /// [tell](Self::is_control) it from the others.
    pub(crate) fn of_control(name: &str) -> Self {
        let mut key = digest(b"T", [name.as_bytes()]);
        key[..8].fill(0);
        Self(key)
    }

    /// Whether it is the key of a control record, such as the one that has the
    /// [maintenance windows](crate::guide::maintenance), and not that of an operation.
    ///
    /// ```
    /// use tower_idempotency::core::{IdempotencyKey, Key};
    ///
    /// let key = IdempotencyKey::parse(b"order-17")?;
    /// assert!(!Key::new("tenant-1", &key).is_control());
    /// # Ok::<_, tower_idempotency::core::InvalidKey>(())
    /// ```
    pub fn is_control(&self) -> bool {
        self.0[..8] == [0; 8]
    }

    /// `space` says what it is a key of.
    fn derive(space: &[u8], scope: &str, idempotency_key: &IdempotencyKey) -> Self {
        Self(digest(space, [scope.as_bytes(), idempotency_key.0.as_bytes()]))
    }

    /// A key from its 32 bytes, as a store reads them back.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes, as a store keeps them.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hex(&self.0), f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hex(&self.0[..6]), f)
    }
}

/// The idempotency key to send *downstream* with one step.
///
/// It is derived from the operation's [`Key`] and the step's name, and from
/// nothing else: every attempt, on every machine, after every crash, even
/// after the store lost its data, sends the same one. 40 hexadecimal
/// characters, or a [UUID](Self::to_uuid) of 36; the client's own key cannot be
/// read from it.
///
/// | receiver | takes | send |
/// |---|---|---|
/// | Stripe (`Idempotency-Key`) | up to 255 characters | either |
/// | Adyen (`idempotency-key`) | up to 64 characters | either |
/// | Square (`idempotency_key`) | up to 45 characters | either |
/// | PayPal (`PayPal-Request-Id`) | up to 38 characters | the UUID |
///
/// Limits change: look yours up. For a receiver that wants a UUID, or no more
/// than 36 characters, set [`StepFuture::uuid_key`](crate::StepFuture::uuid_key)
/// on the step rather than convert: every attempt then sends the form that the first one
/// sent, even if a later release of the handler sets another.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StepKey(String);

/// How a [`StepKey`] is written. What a step was begun with stays on record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyForm {
    /// 40 hexadecimal characters.
    #[default]
    Hex,
    /// A UUID of 36 characters: see [`StepKey::to_uuid`].
    Uuid,
}

/// What the UUIDs of step keys are made under; another would make other keys.
const UUID_NAMESPACE: [u8; 16] =
    [0x6f, 0x1d, 0x2c, 0x5e, 0x90, 0x3b, 0x4a, 0x7e, 0x8d, 0x41, 0xc2, 0x77, 0x0a, 0xe5, 0x19, 0xb4];

impl StepKey {
    /// Derives the key of step `name` of the operation `key`.
    pub fn new(key: &Key, name: &str) -> Self {
        Self(short(b"S", [key.0.as_slice(), name.as_bytes()]))
    }

    /// Derives the key that is sent with the undoing of step `name`. It is that of no step,
    /// whatever steps are called.
    ///
    /// ```
    /// use tower_idempotency::core::{Key, StepKey};
    ///
    /// let key = Key::from_bytes([7; 32]);
    /// assert_ne!(StepKey::of_undo(&key, "charge"), StepKey::new(&key, "charge"));
    /// assert_ne!(StepKey::of_undo(&key, "charge"), StepKey::new(&key, "undo charge"));
    /// ```
    pub fn of_undo(key: &Key, name: &str) -> Self {
        Self(short(b"U", [key.0.as_slice(), name.as_bytes()]))
    }

    /// The same key as a UUID, for receivers that want one: version 5 of
    /// RFC 9562, of the 40 characters. The UUID of a UUID is itself.
    ///
    /// ```
    /// use tower_idempotency::core::{Key, StepKey};
    ///
    /// let key = StepKey::new(&Key::from_bytes([7; 32]), "charge");
    /// assert_eq!(key.as_str(), "1725df90c32d8e09afd5aa5665e7ffcd54dbe529");
    /// assert_eq!(key.to_uuid().as_str(), "492301f7-9361-537a-9980-6ed34adcd818");
    /// ```
    #[must_use]
    pub fn to_uuid(&self) -> Self {
        if self.0.contains('-') {
            return self.clone();
        }
        let mut hash = sha1_smol::Sha1::from(UUID_NAMESPACE);
        hash.update(self.0.as_bytes());
        let [bytes @ .., _, _, _, _] = hash.digest().bytes();
        Self(uuid(5, bytes))
    }

    /// The same key, written in this form.
    pub(crate) fn written(self, form: KeyForm) -> Self {
        match form {
            KeyForm::Hex => self,
            KeyForm::Uuid => self.to_uuid(),
        }
    }

    /// The key's characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A UUID of this version (RFC 9562, section 4), of these bytes but where that stands.
pub(crate) fn uuid(version: u8, mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | version << 4;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    // At fixed places, for a client pays for it in each call.
    let mut text = [b'-'; 36];
    for (at, byte) in [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34].into_iter().zip(bytes) {
        text[at] = b"0123456789abcdef"[usize::from(byte >> 4)];
        text[at + 1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    str::from_utf8(&text).unwrap_or_default().to_owned()
}

impl fmt::Display for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StepKey({})", self.0)
    }
}
