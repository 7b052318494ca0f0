//! What is there already, or comes later.

/// A value, or the future that makes it. What is there needs no place in which to wait for it.
pub(crate) enum Soon<F: Future> {
    Now(F::Output),
    Later(F),
}

impl<F: Future> Soon<F> {
    /// The value, once it is there.
    pub(crate) async fn get(self) -> F::Output {
        match self {
            Self::Now(value) => value,
            Self::Later(value) => value.await,
        }
    }
}
