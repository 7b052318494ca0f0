//! One request to the page, by a person who may see it.

use http::header::ACCEPT;
use http::request::Parts;

use crate::operator::Operator;
use crate::operator::error::OperatorError;
use crate::operator::inspector::authorise::Who;
use crate::operator::inspector::forgery::{self, Secret};
use crate::operator::inspector::form::Pairs;
use crate::operator::inspector::position;
use crate::operator::inspector::refused::Refused;
use crate::operator::listing::{ListPosition, Listed, Listing};
use crate::operator::shown::Shown;

/// How many pages of operations are looked at for one page of those that a person may see.
const STEPS: usize = 5;

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
        match found.and_then(|shown| self.who.may_see(&shown).then_some(shown).ok_or(OperatorError::Absent)) {
            // It may be any one's.
            Err(OperatorError::Store(error)) if error.is_unreadable() && !self.who.sees_all() => {
                Err(OperatorError::Absent.into())
            }
            found => Ok(found?),
        }
    }

    /// One page of what they may see. Where they see some operations alone, it looks on behind
    /// those of others, as far as one page may: their own may be the last.
    pub(super) async fn list(&self, mut listing: Listing) -> Result<Listed, OperatorError> {
        if self.who.sees_all() {
            return self.operator.list(&listing).await;
        }
        let (limit, mut seen) = (listing.limit, Vec::new());
        for _ in 0..STEPS {
            let listed = self.operator.list(&listing.clone().limit(limit - seen.len())).await?;
            seen.extend(listed.operations.into_iter().filter(|shown| self.who.may_see(shown)));
            listing.after = listed.next;
            if listing.after.is_none() || seen.len() >= limit {
                break;
            }
        }
        // How many others there are is not for them.
        Ok(Listed { operations: seen, next: listing.after, ..Listed::default() })
    }

    /// Where a list goes on, as they may know it.
    pub(super) fn position(&self, next: &ListPosition) -> Option<String> {
        if self.who.sees_all() { Some(next.to_string()) } else { position::seal(self.who.name(), next) }
    }

    /// The place that they were told.
    pub(super) fn place(&self, text: &str) -> Result<ListPosition, Refused> {
        let place = if self.who.sees_all() { text.parse().ok() } else { position::open(self.who.name(), text) };
        place.ok_or(Refused::input("Start at the first page of the list again."))
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
