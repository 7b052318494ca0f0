//! What goes wrong with one connection.

use std::time::Duration;

/// Where: how much of an exchange gets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// Before the first byte of the request.
    BeforeRequest,
    /// In the request's head.
    InRequestHead,
    /// At the end of its head.
    AtRequestHeadEnd,
    /// In its body.
    InRequestBody,
    /// At its end: the server has all of it.
    AfterRequest,
    /// In the response's head.
    InResponseHead,
    /// At the end of its head.
    AtResponseHeadEnd,
    /// In its body.
    InResponseBody,
    /// At its end.
    AfterResponse,
}

impl Place {
    /// All of them, in order.
    pub const ALL: [Self; 9] = [
        Self::BeforeRequest,
        Self::InRequestHead,
        Self::AtRequestHeadEnd,
        Self::InRequestBody,
        Self::AfterRequest,
        Self::InResponseHead,
        Self::AtResponseHeadEnd,
        Self::InResponseBody,
        Self::AfterResponse,
    ];

    /// How many bytes of the request get through.
    pub(crate) fn of_request(self, head: usize, all: usize, random: &mut fastrand::Rng) -> usize {
        match self {
            Self::BeforeRequest => 0,
            Self::InRequestHead => random.usize(1..head),
            Self::AtRequestHeadEnd => head,
            Self::InRequestBody => random.usize(head..all),
            _ => all,
        }
    }

    /// How many bytes of the response do. `None` if it is not awaited.
    pub(crate) fn of_response(self, head: usize, all: usize, random: &mut fastrand::Rng) -> Option<usize> {
        match self {
            Self::InResponseHead => Some(random.usize(1..head)),
            Self::AtResponseHeadEnd => Some(head),
            Self::InResponseBody => Some(random.usize(head..all)),
            Self::AfterResponse => Some(all),
            _ => None,
        }
    }
}

/// What happens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// The connection is closed, as if it were the end.
    Close,
    /// It is reset.
    Reset,
    /// Nothing more comes, and it stays open.
    Stall,
    /// What follows comes this many milliseconds later.
    Delay(u64),
    /// The proxy itself responds with this status.
    Says(u16),
}

/// What goes wrong with one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// And what.
    pub action: Action,
    /// For the byte.
    pub seed: u64,
}

impl Fault {
    /// Any one.
    pub fn any(random: &mut fastrand::Rng) -> Self {
        let place = Place::ALL[random.usize(..Place::ALL.len())];
        let action = match random.u8(..10) {
            0..3 => Action::Close,
            3..6 => Action::Reset,
            6 => Action::Stall,
            7..9 => Action::Delay(random.u64(1..20)),
            // Behind a part of a response a proxy can't say anything more.
            _ if place > Place::AfterRequest => Action::Close,
            _ => Action::Says([502, 503, 504, 429, 408][random.usize(..5)]),
        };
        Self { place, action, seed: random.u64(..) }
    }

    pub(crate) const fn pause(&self) -> Option<Duration> {
        match self.action {
            Action::Delay(milliseconds) => Some(Duration::from_millis(milliseconds)),
            _ => None,
        }
    }
}
