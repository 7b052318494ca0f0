//! Webhooks: each event once, by the id that its sender gives it.

use http::{HeaderName, Request};
use tower_idempotency::Webhook;

use crate::support::bodies::{TestBody, full};
use crate::support::lab::{Lab, numbered, reply, send, serve};

const SENDERS: [(Webhook, Option<&str>); 4] = [
    (Webhook::GitHub, Some("x-github-delivery")),
    (Webhook::Shopify, Some("x-shopify-webhook-id")),
    (Webhook::StandardWebhooks, Some("webhook-id")),
    (Webhook::Stripe, None),
];

/// Event `id`, sent for the `n`th time: some senders make the body anew.
fn sent(header: Option<&str>, id: &str, n: u32) -> Request<TestBody> {
    let request = Request::post("/hook").header("content-type", "application/json");
    match header {
        Some(header) => request.header(header, id).body(full(format!(r#"{{"try":{n}}}"#))).unwrap(),
        None => request.body(full(format!(r#"{{"object":"event","id":"{id}","try":{n}}}"#))).unwrap(),
    }
}

#[tokio::test]
async fn an_event_counts_once_whatever_its_sender_makes_of_the_body() {
    for (sender, header) in SENDERS {
        let (app, runs) = numbered(&Lab::new().layer().webhook(sender));
        send(&app, sent(header, "evt-1", 1)).await.assert_first(201, "charge 1");
        send(&app, sent(header, "evt-1", 2)).await.assert_replay(201, "charge 1");
        send(&app, sent(header, "evt-2", 1)).await.assert_first(201, "charge 2");
        assert_eq!(runs.get(), 2, "{sender:?}");
    }
}

#[tokio::test]
async fn what_has_no_id_is_refused() {
    for (sender, _) in SENDERS {
        let (app, runs) = numbered(&Lab::new().layer().webhook(sender));
        let other = HeaderName::from_static("x-other-id");
        send(&app, sent(Some(other.as_str()), "evt-1", 1)).await.assert_problem("missing-key", 400);
        assert_eq!(runs.get(), 0, "{sender:?}");
    }
}

/// The sender tries again: in resumable mode that runs, and in at-most-once mode an
/// operator decides.
#[tokio::test]
async fn a_failure_of_the_server_is_not_stored() {
    for (sender, header) in SENDERS {
        for (layer, then) in [(Lab::new().layer(), 500), (Lab::new().layer().resumable(), 503)] {
            let app = serve(&layer.webhook(sender), |_| async { Ok(reply(503, "not now")) });
            send(&app, sent(header, "evt-1", 1)).await.assert_first(503, "not now");
            let again = send(&app, sent(header, "evt-1", 2)).await;
            assert_eq!((again.status.as_u16(), again.is_replay()), (then, false), "{sender:?}");
        }
    }
}
