//! What an attempt came to, and what it may not say of the rest.

use std::sync::Arc;

use super::Record;
use super::hold::Progress;
use super::step::{Point, Step};
use crate::core::message::StoredResponse;

/// Which steps an attempt came to: it ran them, or asked for their stored
/// results.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing between")]
pub enum Reached {
    /// All of them, or it is known what is left out: the handler said that its
    /// response is final, or its steps are undone.
    All,
    /// Those that it wrote itself, and of those of earlier attempts these.
    Only(Arc<[Box<str>]>),
}

impl Reached {
    fn includes(&self, step: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(steps) => steps.iter().any(|name| **name == *step),
        }
    }
}

impl Record {
    /// The steps that earlier attempts began or paid, and that the present one
    /// did not come to.
    pub(crate) fn unreached<'a>(&'a self, reached: &'a Reached) -> impl Iterator<Item = &'a Step> {
        let of_earlier = |step: &&Step| step.attempt < self.attempts;
        let acted = |step: &&Step| step.point == Point::Begun || self.is_paid(step);
        let steps = self.steps.iter().map(AsRef::as_ref);
        steps.filter(of_earlier).filter(acted).filter(|step| !reached.includes(&step.name))
    }

    /// The step about which an attempt that came to `reached` would say nothing
    /// with `response`, and why that must not be: a client that reads of a failure
    /// takes it that nothing was done.
    pub(crate) fn hidden_by<'a>(
        &'a self,
        response: &StoredResponse,
        reached: &'a Reached,
    ) -> Option<(&'a Step, Arc<str>)> {
        let step = self.unreached(reached).next()?;
        let status = response.judged();
        if !status.is_client_error() && !status.is_server_error() {
            return None;
        }
        let was = if step.point == Point::Begun { "begun" } else { "paid" };
        let (status, name) = (status.as_u16(), &step.name);
        let says = if response.status() == status { "was" } else { "was a gRPC status that counts as" };
        let why =
            format!("its response {says} {status}, and this attempt did not reach step {name:?}, which was {was}");
        Some((step, why.into()))
    }

    /// Whether this step made the operation paid.
    fn is_paid(&self, step: &Step) -> bool {
        step.paid && self.progress != Progress::Pending
    }
}
