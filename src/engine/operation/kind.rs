//! How a step is kept from being done twice.

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Step,
    Pay,
    Once,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Pay => "pay",
            Self::Once => "once",
        }
    }
}
