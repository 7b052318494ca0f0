//! What stands outside of the layer, and answers before it.

use http::{Request, Response};
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt, service_fn};
use tower_idempotency::ResponseBody;

use crate::support::bodies::TestBody;
use crate::support::lab::{Lab, numbered, post, send, with};

/// Requirements E07, S04 and S05: authorisation and rate limits come first, so that
/// a key shows nothing to a client that they refuse, and their refusal is no answer.
#[tokio::test]
async fn what_an_outer_layer_refuses_is_neither_kept_nor_replayed() {
    let lab = Lab::new();
    let (guarded, runs) = numbered(&lab.layer());
    let outer = service_fn(move |request: Request<TestBody>| {
        let guarded = guarded.clone();
        async move {
            let status = match request.headers()["authorization"].as_bytes() {
                b"Bearer valid" => return guarded.oneshot(request).await,
                b"Bearer busy" => 429,
                _ => 401,
            };
            Ok(Response::builder().status(status).body(ResponseBody::default()).unwrap())
        }
    });
    let app = BoxCloneSyncService::new(outer);
    let charge = |token: &str| with(post("k"), "authorization", token);
    let refused = [("Bearer revoked", 401), ("Bearer busy", 429)];
    for (token, status) in refused {
        send(&app, charge(token)).await.assert_first(status, "");
    }
    assert_eq!(lab.store.calls(), 0);
    send(&app, charge("Bearer valid")).await.assert_first(201, "charge 1");
    for (token, status) in refused {
        send(&app, charge(token)).await.assert_first(status, "");
    }
    send(&app, charge("Bearer valid")).await.assert_replay(201, "charge 1");
    assert_eq!(runs.get(), 1);
}
