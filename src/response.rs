//! wip
#[derive(Clone, Copy, Debug)]
/// wip
pub enum Refusal {
    /// x
    A,
}
