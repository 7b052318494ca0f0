//! Attempts and steps as spans.
//!
//! Names of attributes are OpenTelemetry's where it has one
//! (`http.request.method`, `error.type`, `otel.*`), and begin with
//! `idempotency.` where it has none. The table is in `guide/operations.md`.

#[cfg(not(feature = "tracing"))]
pub(crate) use self::silent::{StepSpan, attempt};
#[cfg(feature = "tracing")]
pub(crate) use self::spans::{StepSpan, attempt};

#[cfg(feature = "tracing")]
mod spans {
    use std::sync::Arc;

    use http::Method;
    use tracing::field::Empty;
    use tracing::{Instrument, Span};

    use crate::attempt::Attempt;
    use crate::core::Mode;
    use crate::operation::StepError;

    /// `work` in a span of its attempt.
    pub(crate) fn attempt<F: Future>(
        attempt: &Arc<Attempt>,
        method: Option<&Method>,
        work: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        let record = attempt.claimed();
        let span = tracing::info_span!(
            target: "tower_idempotency",
            "idempotency.operation",
            otel.kind = "internal",
            idempotency.key_hash = %attempt.key(),
            idempotency.attempt = record.attempts(),
            idempotency.mode = if record.mode() == Mode::Resumable { "resumable" } else { "at-most-once" },
            http.request.method = method.map(Method::as_str),
        );
        work.instrument(span)
    }

    /// The span of a step.
    #[derive(Clone)]
    pub(crate) struct StepSpan(Span);

    impl StepSpan {
        pub(crate) fn new(name: &str, kind: &'static str) -> Self {
            Self(tracing::info_span!(
                target: "tower_idempotency",
                "idempotency.step",
                otel.kind = "internal",
                otel.status_code = Empty,
                error.r#type = Empty,
                idempotency.step.name = name,
                idempotency.step.kind = kind,
                idempotency.step.outcome = Empty,
            ))
        }

        /// How it ended, if it did.
        pub(crate) fn outcome(&self, outcome: &'static str) {
            self.0.record("idempotency.step.outcome", outcome);
        }

        pub(crate) fn around<T, E, F>(self, work: F) -> impl Future<Output = F::Output>
        where
            F: Future<Output = Result<T, StepError<E>>>,
        {
            let span = self.0.clone();
            let work = async move {
                let outcome = work.await;
                if let Err(error) = &outcome {
                    self.outcome(error.name());
                    self.0.record("otel.status_code", "ERROR");
                    self.0.record("error.type", error.name());
                }
                outcome
            };
            work.instrument(span)
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod silent {
    use std::sync::Arc;

    use crate::attempt::Attempt;

    pub(crate) fn attempt<F: Future>(_: &Arc<Attempt>, _: Option<&http::Method>, work: F) -> F {
        work
    }

    #[derive(Clone)]
    pub(crate) struct StepSpan;

    impl StepSpan {
        pub(crate) const fn new(_: &str, _: &'static str) -> Self {
            Self
        }

        pub(crate) const fn outcome(&self, _: &'static str) {}

        pub(crate) const fn around<F>(&self, work: F) -> F {
            let _ = self;
            work
        }
    }
}
