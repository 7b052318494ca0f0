//! The settings of a layer for requests from a sender of webhooks.

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
    /// Shopify: `X-Shopify-Webhook-Id`. Its `X-Shopify-Event-Id` can't be the key, because
    /// webhooks of several topics share one.
    Shopify,
    /// [Standard Webhooks](https://www.standardwebhooks.com): `webhook-id`.
    StandardWebhooks,
    /// Stripe: the member `id` of the body, which names the event.
    Stripe,
}

impl IdempotencyLayer {
    /// Takes the webhooks of this sender, each event once. It is short for these settings:
    ///
    /// - the key is the id of the event, from the place where that sender puts it
    ///   ([`key_headers`](Self::key_headers), [`key_member`](Self::key_member)), and it is
    ///   [`required`](Self::required);
    /// - the fingerprint leaves out [the body](FingerprintRules::ignore_body), because some
    ///   senders make it anew for each try;
    /// - the layer stores no 408 and no 5xx ([`Outcomes::retry_server_errors`]): the sender
    ///   tries again. In resumable mode that try continues where the last attempt stopped; in
    ///   at-most-once mode it gets `outcome-unknown`, and an operator decides.
    ///
    /// You can override each of them after this call.
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
    /// Verify the signature *outside* the layer, so that it sees no forged request. Of two
    /// requests with one id the first one counts, whatever is in it: if that one is forged, the
    /// genuine one gets the response to the forged one. The [`Scope`](crate::Scope) has to name
    /// the sender. Do not derive it from the signature, which differs at each try.
    ///
    /// If a sender keeps trying for longer than the [retention](crate::Engine::retention), its
    /// event runs again.
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
