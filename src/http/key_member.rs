//! A key that is a member of the body.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::core::InvalidKey;
use crate::http::fingerprint::pointer::{InvalidPointer, tokens};

/// The member of a JSON body that is the key, see
/// [`IdempotencyLayer::key_member`](crate::IdempotencyLayer::key_member).
///
/// | API | pointer |
/// |---|---|
/// | Square | `/idempotency_key` |
/// | AWS | `/ClientToken` |
/// | AIP-155 | `/request_id` |
/// | Google Standard Payments | `/requestHeader/requestId` |
///
/// ```
/// use tower_idempotency::KeyMember;
///
/// assert!(KeyMember::at("/idempotency_key").is_ok());
/// let error = KeyMember::at("idempotency_key").unwrap_err();
/// assert_eq!(error.to_string(), "write the JSON pointer `idempotency_key` as `/idempotency_key`");
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct KeyMember(Arc<[String]>);

impl KeyMember {
    /// At this JSON pointer (RFC 6901), through objects. An item of an array can't be a key.
    ///
    /// # Errors
    ///
    /// [`InvalidKeyMember`] says how to write it: a pointer begins with a slash; in a name,
    /// `~0` stands for a tilde, and `~1` for a slash.
    pub fn at(pointer: &str) -> Result<Self, InvalidKeyMember> {
        tokens(pointer).map(|names| Self(names.into())).map_err(InvalidKeyMember)
    }

    /// The member of this name, of the body itself.
    pub(crate) fn named(name: &str) -> Self {
        Self([name.to_owned()].into())
    }

    /// What is there, in a body that is JSON. The rest of it is passed over, and takes no
    /// memory.
    pub(crate) fn find(&self, body: &[u8]) -> Option<Result<String, InvalidKey>> {
        let mut body = serde_json::Deserializer::from_slice(body);
        let found = Path(&self.0).deserialize(&mut body).ok()?;
        body.end().ok()?;
        match found {
            Found::Nothing => None,
            Found::Text(text) => Some(Ok(text)),
            Found::Other => Some(Err(InvalidKey::NotString)),
            Found::Twice => Some(Err(InvalidKey::Twice)),
        }
    }
}

/// The text is not a JSON pointer to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidKeyMember(InvalidPointer);

impl fmt::Display for InvalidKeyMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            InvalidPointer::Whole => f.write_str("an empty JSON pointer is the whole body: name a member of it"),
            InvalidPointer::Relative(text) => write!(f, "write the JSON pointer `{text}` as `/{text}`"),
            InvalidPointer::Tilde(text) => write!(f, "in the JSON pointer `{text}`, write a tilde as `~0`"),
        }
    }
}

impl Error for InvalidKeyMember {}

enum Found {
    Nothing,
    Text(String),
    /// It is there, and no string.
    Other,
    /// One name on the way stands there twice: which one the handler takes is not known.
    Twice,
}

/// The names that are still to go.
struct Path<'a>(&'a [String]);

impl<'de> DeserializeSeed<'de> for Path<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Path<'_> {
    const fn other(&self) -> Found {
        if self.0.is_empty() { Found::Other } else { Found::Nothing }
    }
}

impl<'de> Visitor<'de> for Path<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Found, E> {
        Ok(self.other())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Found, E> {
        Ok(self.other())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Found, E> {
        Ok(self.other())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Found, E> {
        Ok(self.other())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Found, E> {
        Ok(self.other())
    }

    fn visit_str<E>(self, text: &str) -> Result<Found, E> {
        Ok(if self.0.is_empty() { Found::Text(text.to_owned()) } else { Found::Nothing })
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Found, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self.other())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Found, A::Error> {
        let Some((first, rest)) = self.0.split_first() else {
            while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Found::Other);
        };
        let mut found = None;
        while let Some(name) = members.next_key::<Cow<'de, str>>()? {
            if name != first.as_str() {
                members.next_value::<IgnoredAny>()?;
            } else if found.is_none() {
                found = Some(members.next_value_seed(Path(rest))?);
            } else {
                members.next_value::<IgnoredAny>()?;
                found = Some(Found::Twice);
            }
        }
        Ok(found.unwrap_or(Found::Nothing))
    }
}
