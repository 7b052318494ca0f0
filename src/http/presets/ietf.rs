//! As the IETF draft has it, to the letter.

use crate::engine::outcomes::Outcomes;
use crate::http::header::IDEMPOTENCY_KEY;
use crate::http::key_rules::KeyRules;
use crate::http::layer::IdempotencyLayer;
use crate::http::words::{InProgressStatus, KeyReusedStatus};

impl IdempotencyLayer {
    /// As [draft-ietf-httpapi-idempotency-key-header-07] has it, to the letter. It is short
    /// for
    ///
    /// - the key in `Idempotency-Key`, and
    ///   [strictly](KeyRules::strict) a string in quotes (§2.1): by default bare keys are
    ///   taken too, since most clients send them so;
    /// - 422 for a key that was used for a different request, 409 while the first request
    ///   runs (§2.7);
    /// - "the result of the previously completed operation, success or an error" (§2.6), as
    ///   the default [`Outcomes`] have it.
    ///
    /// You can override each of them after this call. Where the draft leaves a choice, it is
    /// yours: [`required`](Self::required) (§2.7), [`documentation`](Self::documentation)
    /// (§2.5.2), [`fingerprint`](Self::fingerprint) (§2.4) and
    /// [`Engine::retention`](crate::Engine::retention) (§2.3).
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
    ///     .ietf()
    ///     .required()
    ///     .documentation("https://shop.example/idempotency");
    /// ```
    ///
    /// # Caveats
    ///
    /// Clients that send their keys bare get a 400, `invalid-key`.
    ///
    /// [draft-ietf-httpapi-idempotency-key-header-07]: https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header-07
    pub fn ietf(self) -> Self {
        self.key_headers([IDEMPOTENCY_KEY.clone()])
            .key_rules(KeyRules::new().strict())
            .key_reused_status(KeyReusedStatus::UnprocessableContent)
            .in_progress_status(InProgressStatus::Conflict)
            .outcomes(Outcomes::new())
    }
}
