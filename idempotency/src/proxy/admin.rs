//! What runs the proxy asks it: whether it lives, whether it is ready, and its metrics.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::StatusCode;
use metrics_exporter_prometheus::PrometheusHandle;
use tower_idempotency::{Engine, Operator};

/// How long the store may take to say something.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) engine: Engine,
    pub(crate) metrics: PrometheusHandle,
}

impl Admin {
    pub(crate) fn app(self) -> Router {
        Router::new()
            .route("/healthz", get(|| async { "alive\n" }))
            .route("/readyz", get(ready))
            .route("/metrics", get(|State(admin): State<Self>| async move { admin.metrics.render() }))
            .with_state(self)
    }
}

/// The service behind has a check of its own: if all proxies said that they are not ready because
/// of it, replays would end too.
async fn ready(State(admin): State<Admin>) -> (StatusCode, String) {
    if admin.engine.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
    }
    // What is planned is one record: the store has to look, and that is all.
    let operator = Operator::new(&admin.engine);
    match tokio::time::timeout(PATIENCE, operator.windows()).await {
        Ok(Ok(_)) => (StatusCode::OK, "ready\n".to_owned()),
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the store does not respond\n".to_owned()),
    }
}
