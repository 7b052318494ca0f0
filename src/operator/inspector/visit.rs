//! One request to the page, by a person who may see it.

use http::header::ACCEPT;
use http::request::Parts;

use crate::operator::Operator;
use crate::operator::error::OperatorError;
use crate::operator::inspector::authorise::Who;
use crate::operator::inspector::forgery::{self, Secret};
use crate::operator::inspector::form::Pairs;
use crate::operator::inspector::refused::Refused;
use crate::operator::shown::Shown;

pub(super) struct Visit {
    /// Who decides is in it already.
    pub(super) operator: Operator,
    pub(super) who: Who,
    pub(super) parts: Parts,
    /// The pairs of the query.
    pub(super) asked: Pairs,
}

impl Visit {
    pub(super) fn new(operator: &Operator, who: Who, parts: Parts, asked: Pairs) -> Self {
        Self { operator: operator.by(who.name()), who, parts, asked }
    }

    pub(super) fn wants_json(&self) -> bool {
        let accepted = self.parts.headers.get_all(ACCEPT);
        let accepts = |kind: &str| accepted.iter().any(|line| line.to_str().is_ok_and(|line| line.contains(kind)));
        self.asked.has("json") || accepts("application/json") && !accepts("text/html")
    }

    /// The operation with this hash, if they may see it. One that they may not is to them
    /// as if there were none.
    pub(super) async fn find(&self, hash: &str) -> Result<Shown, Refused> {
        self.visible(self.operator.find_by_hash(hash).await)
    }

    pub(super) fn visible(&self, found: Result<Shown, OperatorError>) -> Result<Shown, Refused> {
        let found = found.and_then(|shown| self.who.may_see(&shown).then_some(shown).ok_or(OperatorError::Absent));
        Ok(found?)
    }

    /// The token for a form, and the cookie without which the browser can't send it.
    pub(super) fn token(&self) -> Result<(String, String), Refused> {
        let secret = Secret::of(&self.parts).or_else(Secret::new).ok_or(Refused::NO_RANDOM)?;
        Ok((secret.token(self.who.name()), secret.cookie(&self.parts)))
    }

    /// Whether the form was sent from this page.
    pub(super) fn check(&self, form: &Pairs) -> Result<(), Refused> {
        let genuine = forgery::is_genuine(&self.parts, form.get("token"), self.who.name());
        genuine.then_some(()).ok_or(Refused::FORGED)
    }
}
