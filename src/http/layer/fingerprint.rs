//! What makes two requests the same request.

use super::IdempotencyLayer;
use crate::http::fingerprint::rules::FingerprintRules;

impl IdempotencyLayer {
    /// What makes two requests the same request: see [`FingerprintRules`], which has the
    /// default. A retry that is another request gets 422 `key-reused`.
    ///
    /// ```
    /// use tower_idempotency::{FingerprintRules, IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let rules = FingerprintRules::new().ignore_authority().ignore_json(["/sent_at"])?;
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>()).fingerprint(rules);
    /// # Ok::<_, tower_idempotency::InvalidPointer>(())
    /// ```
    pub fn fingerprint(self, rules: FingerprintRules) -> Self {
        self.set(|policy| policy.fingerprint = rules)
    }

    /// The rules of this layer, as a text for clients: see
    /// [`FingerprintRules::documentation`]. Put it on the page that
    /// [`documentation`](Self::documentation) links to.
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>());
    /// assert!(layer.fingerprint_documentation().contains("- the body, byte by byte\n"));
    /// ```
    #[must_use]
    pub fn fingerprint_documentation(&self) -> String {
        self.shared.policy.fingerprint.documentation()
    }
}
