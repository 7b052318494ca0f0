//! What a request asks for: the pairs of its query, and of the form that it sends.

use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::{Buf, Bytes};
use form_urlencoded::Serializer;
use http_body::Body;

use crate::operator::inspector::refused::Refused;

/// The most bytes that a form may have: a response that is typed in is the largest part.
const MOST: usize = 1024 * 1024;

/// How long a form may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Names and values, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Pairs(Vec<(String, String)>);

impl Pairs {
    pub(super) fn parse(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    /// The first value of this name; one that is empty counts as none.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let pair = self.0.iter().find(|(found, _)| found == name);
        pair.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// Whether there is one of this name, with a value or without.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(found, _)| found == name)
    }

    /// Whether there are none but of these names.
    pub(super) fn has_only(&self, names: &[&str]) -> bool {
        self.0.iter().all(|(found, _)| names.contains(&found.as_str()))
    }

    /// A link to the same with this pair in place of another one of its name.
    pub(super) fn link_with(&self, name: &str, value: &str) -> String {
        let others = self.0.iter().filter(|(found, _)| found != name);
        Serializer::for_suffix(String::from("?"), 1).extend_pairs(others).append_pair(name, value).finish()
    }
}

/// A relative link: to the page itself, wherever it is mounted, with these pairs.
pub(super) fn link(pairs: &[(&str, &str)]) -> String {
    Serializer::for_suffix(String::from("?"), 1).extend_pairs(pairs).finish()
}

/// Reads the form that a request sends.
pub(super) async fn read<B>(body: B) -> Result<Pairs, Refused>
where
    B: Body<Data: Buf>,
{
    match tokio::time::timeout(PATIENCE, collect(pin!(body))).await {
        Ok(read) => read.map(|bytes| Pairs::parse(&bytes)),
        Err(_) => Err(Refused::UPLOAD_TIMEOUT),
    }
}

async fn collect<B>(mut body: Pin<&mut B>) -> Result<Bytes, Refused>
where
    B: Body<Data: Buf>,
{
    let mut read = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let Ok(mut data) = frame.map_err(|_| Refused::UPLOAD_BROKEN)?.into_data() else {
            continue;
        };
        if read.len().saturating_add(data.remaining()) > MOST {
            return Err(Refused::UPLOAD_TOO_LARGE);
        }
        read.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    Ok(read.into())
}
