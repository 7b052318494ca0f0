//! Why the page does not do what it was asked for.

use std::borrow::Cow;

use http::StatusCode;

use crate::operator::error::OperatorError;

/// A refusal, as a page or as JSON. Nothing has changed.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) title: &'static str,
    /// What to do next.
    pub(super) advice: Cow<'static, str>,
}

impl Refused {
    pub(super) const UPLOAD_TIMEOUT: Self =
        Self::new(StatusCode::REQUEST_TIMEOUT, "The form did not arrive", "Nothing was changed. Send the form again.");
    pub(super) const UPLOAD_BROKEN: Self =
        Self::new(StatusCode::BAD_REQUEST, "The form broke off", "Nothing was changed. Send the form again.");
    pub(super) const UPLOAD_TOO_LARGE: Self = Self::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "The form is too large",
        "Nothing was changed. A form may have one megabyte; store a larger response with Operator::resolve.",
    );
    pub(super) const NO_PAGE: Self =
        Self::new(StatusCode::NOT_FOUND, "There is no such page", "Go to the overview, and follow a link from there.");
    pub(super) const NO_METHOD: Self = Self::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "This page has no such method",
        "It is read with GET and HEAD; forms are sent with POST.",
    );
    pub(super) const FORGED: Self = Self::new(
        StatusCode::FORBIDDEN,
        "The form was not sent from this page",
        "Nothing was changed. Open the operation here, and decide again; the page needs its cookie for that, and a \
         proxy in front of it has to pass the Host header on.",
    );
    pub(super) const MAY_NOT: Self = Self::new(
        StatusCode::FORBIDDEN,
        "You may look, and not decide",
        "Nothing was changed. Ask a person who may decide, or have the page's authorisation let you.",
    );

    pub(super) const MAY_NOT_PLAN: Self = Self::new(
        StatusCode::FORBIDDEN,
        "You may look, and not plan",
        "Nothing was changed. Ask a person who may plan maintenance, or have the page's authorisation let you.",
    );
    pub(super) const NO_RANDOM: Self = Self::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "The system has no random numbers",
        "Nothing was changed. Without them no form can be protected; decide from another process.",
    );

    pub(super) const fn new(status: StatusCode, title: &'static str, advice: &'static str) -> Self {
        Self { status, title, advice: Cow::Borrowed(advice) }
    }

    /// What was typed makes no sense.
    pub(super) const fn input(advice: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "That can't be done with this input", advice)
    }
}

impl From<OperatorError> for Refused {
    fn from(error: OperatorError) -> Self {
        let (status, title) = match &error {
            OperatorError::InvalidKey(_) | OperatorError::InvalidHash | OperatorError::InvalidReference => {
                (StatusCode::BAD_REQUEST, "That is no key, hash or reference")
            }
            OperatorError::NoSuchSchedule => (StatusCode::NOT_FOUND, "There is no such schedule"),
            OperatorError::NoSuchWindow => (StatusCode::NOT_FOUND, "There is no such maintenance window"),
            OperatorError::InvalidWindow(_) => (StatusCode::BAD_REQUEST, "That is no maintenance window"),
            OperatorError::Absent => (StatusCode::NOT_FOUND, "There is no such operation"),
            OperatorError::Store(error) if error.is_unreadable() => {
                (StatusCode::INTERNAL_SERVER_ERROR, "The record can't be read")
            }
            OperatorError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "The store does not answer"),
            OperatorError::NotIndexed(_) => (StatusCode::NOT_IMPLEMENTED, "The store does not list these operations"),
            _ => (StatusCode::CONFLICT, "Nothing was changed"),
        };
        Self { status, title, advice: error.to_string().into() }
    }
}
