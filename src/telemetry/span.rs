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
    use http::Method;
    use tracing::field::Empty;
    use tracing::{Instrument, Span};

    use crate::core::{Key, Mode, Record};

    /// `work` in a span of the attempt that claimed `record`.
    pub(crate) fn attempt<F: Future>(
        key: &Key,
        record: &Record,
        method: Option<&Method>,
        work: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        let span = tracing::info_span!(
            target: "tower_idempotency",
            "idempotency.operation",
            otel.kind = "internal",
            idempotency.key_hash = %key,
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

        /// `name` says which error it is.
        pub(crate) fn around<T, E, F>(self, work: F, name: fn(&E) -> &'static str) -> impl Future<Output = F::Output>
        where
            F: Future<Output = Result<T, E>>,
        {
            let span = self.0.clone();
            let work = async move {
                let outcome = work.await;
                if let Err(error) = &outcome {
                    self.outcome(name(error));
                    self.0.record("otel.status_code", "ERROR");
                    self.0.record("error.type", name(error));
                }
                outcome
            };
            work.instrument(span)
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod silent {
    use crate::core::{Key, Record};

    pub(crate) fn attempt<F: Future>(_: &Key, _: &Record, _: Option<&http::Method>, work: F) -> F {
        work
    }

    #[derive(Clone)]
    pub(crate) struct StepSpan;

    impl StepSpan {
        pub(crate) const fn new(_: &str, _: &'static str) -> Self {
            Self
        }

        pub(crate) const fn outcome(&self, _: &'static str) {}

        pub(crate) fn around<T, E, F>(&self, work: F, _: fn(&E) -> &'static str) -> F
        where
            F: Future<Output = Result<T, E>>,
        {
            let _ = self;
            work
        }
    }
}
