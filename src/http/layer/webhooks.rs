//! What a layer is set to for requests that a sender of webhooks makes.

use http::HeaderName;

use super::IdempotencyLayer;
use crate::engine::outcomes::Outcomes;
use crate::http::fingerprint::rules::FingerprintRules;
use crate::http::key_member::KeyMember;

/// A sender of webhooks, see [`IdempotencyLayer::webhook`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Webhook {
    /// GitHub: `X-GitHub-Delivery`, which a redelivery has again.
    GitHub,
    /// Shopify: `X-Shopify-Webhook-Id`. Its `X-Shopify-Event-Id` is none: webhooks of
    /// several topics share one.
    Shopify,
    /// [Standard Webhooks](https://www.standardwebhooks.com): `webhook-id`.
    StandardWebhooks,
    /// Stripe: the member `id` of the body, which names the event.
    Stripe,
}

impl IdempotencyLayer {
    /// Takes the webhooks of this sender, each event once. It is short for
    ///
    /// - the key where that sender has the id of the event
    ///   ([`key_headers`](Self::key_headers), [`key_member`](Self::key_member)), and
    ///   [`required`](Self::required);
    /// - a fingerprint [without the body](FingerprintRules::ignore_body), which some make
    ///   anew for each try;
    /// - no 408 and no 5xx stored ([`Outcomes::retry_server_errors`]): the sender tries
    ///   again. In resumable mode that goes on where the last attempt stopped; in
    ///   at-most-once mode it gets `outcome-unknown`, and an operator decides.
    ///
    /// Each of these can be set otherwise after it.
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, Scope, Webhook, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
    ///     .resumable()
    ///     .webhook(Webhook::GitHub);
    /// ```
    ///
    /// # Caveats
    ///
    /// Verify the signature *outside* of the layer, so that it sees no request that is
    /// forged. Of two requests with one id the first one counts, whatever is in it: a forged
    /// one would have the true one answered with what the forged one got. The
    /// [`Scope`](crate::Scope) is that of the sender, and must not be what the signature
    /// says, which is another one for each try.
    ///
    /// A sender that tries for longer than the [retention](crate::Engine::retention) has
    /// its event run again.
    pub fn webhook(self, sender: Webhook) -> Self {
        let layer = self
            .required()
            .fingerprint(FingerprintRules::new().ignore_body())
            .outcomes(Outcomes::new().retry_server_errors());
        let header = match sender {
            Webhook::GitHub => "x-github-delivery",
            Webhook::Shopify => "x-shopify-webhook-id",
            Webhook::StandardWebhooks => "webhook-id",
            Webhook::Stripe => return layer.key_member(KeyMember::named("id")),
        };
        layer.key_headers([HeaderName::from_static(header)])
    }
}
