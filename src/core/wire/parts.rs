//! Requests, responses and steps: see the table of their fields in [`super`].

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Uri};
use minicbor::bytes::ByteSlice;
use minicbor::{Decode, Encode};

use super::format::{CORRUPT_PART, DecodeError, is_default};
use super::lines::{self, Lines};
use super::seal::{open, seal};
use crate::core::key::KeyForm;
use crate::core::message::{NotRetained, StoredRequest, StoredResponse};
use crate::core::record::step::{Point, Step};
use crate::core::record::time::{Version, millis};
use crate::core::record::undo::Undoing;

#[derive(Encode, Decode)]
#[cbor(map)]
struct WireRequest<'a> {
    #[b(0)]
    method: &'a str,
    #[b(1)]
    target: Cow<'a, str>,
    #[cbor(n(2), with = "lines", skip_if = "lines::none")]
    headers: Lines<'a>,
    #[cbor(n(3), with = "lines", skip_if = "lines::none")]
    trailers: Lines<'a>,
    #[b(4)]
    body: Option<&'a ByteSlice>,
    #[b(5)]
    principal: Option<&'a ByteSlice>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct WireResponse<'a> {
    #[n(0)]
    status: u16,
    #[cbor(n(1), with = "lines", skip_if = "lines::none")]
    headers: Lines<'a>,
    #[cbor(n(2), with = "lines", skip_if = "lines::none")]
    trailers: Lines<'a>,
    /// None if it is not retained.
    #[b(3)]
    body: Option<&'a ByteSlice>,
    #[cbor(n(4), skip_if = "is_default")]
    reason: u32,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct WireStep<'a> {
    #[b(0)]
    name: &'a str,
    #[n(1)]
    point: WirePoint,
    /// Left out of the bytes where it is one.
    #[n(2)]
    attempt: Option<u32>,
    #[cbor(n(3), skip_if = "is_default")]
    after_ms: u64,
    #[n(4)]
    input: Option<u64>,
    #[cbor(n(5), skip_if = "is_default")]
    uuid: bool,
    #[cbor(n(6), skip_if = "is_default")]
    paid: bool,
    #[b(7)]
    value: Option<&'a ByteSlice>,
    /// Attempt, and time after its claim.
    #[n(8)]
    undone: Option<(u32, u64)>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct WireUndoing<'a> {
    #[b(0)]
    steps: Vec<&'a str>,
    /// Left out of the bytes where it is one.
    #[n(1)]
    attempt: Option<u32>,
    #[cbor(n(2), skip_if = "is_default")]
    after_ms: u64,
    #[b(3)]
    response: WireResponse<'a>,
}

/// Not optional in a step: one that is not known would be read as none.
#[derive(Encode, Decode)]
#[cbor(index_only)]
enum WirePoint {
    #[n(0)]
    Begun,
    #[n(1)]
    Saved,
    #[n(2)]
    Failed,
}

pub(super) fn encode_request(request: &StoredRequest) -> Bytes {
    let wire = WireRequest {
        method: request.method().as_str(),
        target: target_of(request.uri()),
        headers: Cow::Borrowed(request.headers()),
        trailers: Cow::Borrowed(request.trailers()),
        body: Some(request.body().as_ref()).filter(|body| !body.is_empty()).map(Into::into),
        principal: request.principal().map(Into::into),
    };
    seal(&wire, request.body().len())
}

/// As it came: most are a path and a query alone, which the URI has in one piece.
fn target_of(uri: &Uri) -> Cow<'_, str> {
    let is_origin = uri.authority().is_none() && uri.scheme().is_none();
    let origin = uri.path_and_query().map(PathAndQuery::as_str).filter(|target| is_origin && target.starts_with('/'));
    origin.map_or_else(|| uri.to_string().into(), Cow::Borrowed)
}

pub(in crate::core) fn decode_request(bytes: &Bytes) -> Result<StoredRequest, DecodeError> {
    let wire = open::<WireRequest<'_>>(bytes, &CORRUPT_PART)?;
    let method = Method::from_bytes(wire.method.as_bytes()).map_err(|_| CORRUPT_PART)?;
    let uri: Uri = wire.target.parse().map_err(|_| CORRUPT_PART)?;
    let (headers, trailers) = (wire.headers.into_owned(), wire.trailers.into_owned());
    let principal = wire.principal.map(|json| Box::from(&**json));
    Ok(StoredRequest::from_parts(method, uri, headers, slice(bytes, wire.body), trailers, principal))
}

pub(super) fn encode_response(response: &StoredResponse) -> Bytes {
    seal(&WireResponse::of(response), response.body().map_or(0, Bytes::len))
}

pub(in crate::core) fn decode_response(bytes: &Bytes) -> Result<StoredResponse, DecodeError> {
    open::<WireResponse<'_>>(bytes, &CORRUPT_PART)?.read(bytes)
}

impl<'a> WireResponse<'a> {
    fn of(response: &'a StoredResponse) -> Self {
        Self {
            status: response.status().as_u16(),
            headers: Cow::Borrowed(response.headers()),
            trailers: Cow::Borrowed(response.trailers()),
            body: response.body().map(|body| body.as_ref().into()),
            reason: response.not_retained().map_or(0, NotRetained::number),
        }
    }

    /// `bytes`: what it was read from.
    fn read(self, bytes: &Bytes) -> Result<StoredResponse, DecodeError> {
        let status = StatusCode::from_u16(self.status).map_err(|_| CORRUPT_PART)?;
        let body = match self.body {
            Some(body) => Ok(slice(bytes, Some(body))),
            None => Err(NotRetained::numbered(self.reason)),
        };
        Ok(StoredResponse::from_parts(status, self.headers.into_owned(), body, self.trailers.into_owned()))
    }
}

pub(super) fn encode_undoing(plan: &Undoing) -> Bytes {
    let wire = WireUndoing {
        steps: plan.steps.iter().map(AsRef::as_ref).collect(),
        attempt: Some(plan.attempt).filter(|attempt| *attempt != 1),
        after_ms: millis(plan.after),
        response: WireResponse::of(&plan.response),
    };
    seal(&wire, plan.response.body().map_or(0, Bytes::len))
}

pub(in crate::core) fn decode_undoing(bytes: &Bytes) -> Result<Undoing, DecodeError> {
    let wire = open::<WireUndoing<'_>>(bytes, &CORRUPT_PART)?;
    Ok(Undoing {
        steps: wire.steps.into_iter().map(Box::from).collect(),
        response: Arc::new(wire.response.read(bytes)?),
        attempt: wire.attempt.unwrap_or(1),
        after: Duration::from_millis(wire.after_ms),
        written: Version::new(0),
    })
}

pub(super) fn encode_step(step: &Step) -> Bytes {
    let (point, value) = match &step.point {
        Point::Begun => (WirePoint::Begun, None),
        Point::Saved(value) => (WirePoint::Saved, Some(value)),
        Point::Failed(error) => (WirePoint::Failed, Some(error)),
    };
    let wire = WireStep {
        name: &step.name,
        point,
        attempt: Some(step.attempt).filter(|attempt| *attempt != 1),
        after_ms: millis(step.after),
        input: step.input,
        uuid: step.key == KeyForm::Uuid,
        paid: step.paid,
        value: value.map(|value| value.as_ref()).filter(|value| !value.is_empty()).map(Into::into),
        undone: step.undone.map(|(attempt, after)| (attempt, millis(after))),
    };
    seal(&wire, value.map_or(0, Bytes::len))
}

pub(in crate::core) fn decode_step(bytes: &Bytes) -> Result<Step, DecodeError> {
    let wire = open::<WireStep<'_>>(bytes, &CORRUPT_PART)?;
    let value = slice(bytes, wire.value);
    Ok(Step {
        name: wire.name.into(),
        point: match wire.point {
            WirePoint::Begun => Point::Begun,
            WirePoint::Saved => Point::Saved(value),
            WirePoint::Failed => Point::Failed(value),
        },
        written: Version::new(0),
        attempt: wire.attempt.unwrap_or(1),
        after: Duration::from_millis(wire.after_ms),
        input: wire.input,
        key: if wire.uuid { KeyForm::Uuid } else { KeyForm::Hex },
        paid: wire.paid,
        undone: wire.undone.map(|(attempt, after)| (attempt, Duration::from_millis(after))),
    })
}

/// Without a copy.
fn slice(bytes: &Bytes, of: Option<&ByteSlice>) -> Bytes {
    of.map_or_else(Bytes::new, |of| bytes.slice_ref(of))
}
