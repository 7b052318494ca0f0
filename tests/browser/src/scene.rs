//! A service whose operations went wrong, and its page.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::routing::post;
use tokio::net::TcpListener;
use tower::ServiceExt;
use tower_idempotency::core::Resolution;
use tower_idempotency::schedule::{Period, Schedule, Scheduler, Timing};
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{Authorise, Engine, IdempotencyLayer, Inspector, Operation, Operator, Scope, StepError};

/// What a hostile client or handler might have a page show.
pub const HOSTILE: &str = "\"><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">";

/// A service, and where its page is.
pub struct Scene {
    pub page: String,
    pub operator: Operator,
    engine: Engine,
}

async fn pay(body: String) -> String {
    assert!(body != "panic", "a planned panic");
    format!("paid {body}")
}

async fn order(op: Operation) -> Result<String, (StatusCode, String)> {
    let failed = |error: StepError<String>| (StatusCode::BAD_GATEWAY, error.to_string());
    op.step("order", |_| async { Ok(17) }).await.map_err(failed)?;
    let charge = op.pay("charge the card of the customer", |_| async { Err::<String, _>("no answer".to_owned()) });
    charge.await.map_err(failed)
}

impl Scene {
    pub async fn calm() -> Self {
        Self::with(&[("/payments", "order-1", "12 euros")]).await
    }

    /// One operation whose outcome is unknown, and one that is parked.
    pub async fn stuck() -> Self {
        let requests = [
            ("/payments", "order-17", "panic"),
            ("/payments", "order-18", "12 euros"),
            ("/payments", "refund-9", "panic"),
            ("/orders/of-a-customer-whose-name-is-as-long-as-names-of-customers-may-be-and-then-some", "cart-3", ""),
        ];
        let scene = Self::with(&requests).await;
        let shown = scene.operator.find("", "refund-9").await.unwrap();
        let park = Resolution::Park { why: HOSTILE.into() };
        scene.operator.by("Ann").resolve(&shown, park).await.unwrap();
        scene
    }

    async fn with(requests: &[(&str, &str, &str)]) -> Self {
        let engine = Engine::new(MemoryStore::new()).instance("worker-1");
        let layer = IdempotencyLayer::new(engine.clone(), Scope::shared());
        let payments = Router::new().route("/payments", post(pay)).layer(layer.clone());
        let orders = Router::new().route("/orders/{of}", post(order)).layer(layer.clone().resumable());
        let service = payments.merge(orders);
        for (path, key, body) in requests {
            let request = Request::post(*path).header("idempotency-key", format!("\"{key}\""));
            service.clone().oneshot(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
        }
        let operator = Operator::new(&layer);
        let inspector = Inspector::new(operator.clone(), Authorise::allow_all_as("Eve"));
        let app = service.nest_service("/deep/operations", inspector);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let page = format!("http://{}/deep/operations", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { page, operator, engine }
    }

    /// A schedule that ran each second for a while, of which one run failed, and one was asked for.
    pub async fn scheduled() -> Self {
        Self::calm().await.with_schedules().await
    }

    pub async fn stuck_and_scheduled() -> Self {
        Self::stuck().await.with_schedules().await
    }

    async fn with_schedules(self) -> Self {
        let (sender, mut runs) = tokio::sync::mpsc::unbounded_channel();
        // Each third run fails: a page of runs has one, however many there were.
        let runs_before = Arc::new(AtomicUsize::new(0));
        let work = move |period: Period, _| {
            let fails = runs_before.fetch_add(1, Ordering::Relaxed).is_multiple_of(3);
            let _ = sender.send(period);
            async move { if fails { Err("the disk is full") } else { Ok(()) } }
        };
        let often = Schedule::new("often", Timing::every(Duration::from_secs(1)).unwrap()).max_tries(1);
        let nightly = Schedule::new("daily-export", Timing::daily("Europe/Zurich", "02:00").unwrap());
        let scheduler = Scheduler::new(self.engine.clone()).schedule(often, work.clone()).unwrap();
        let scheduler = scheduler.schedule(nightly, work).unwrap();
        tokio::spawn(async move { scheduler.run(std::future::pending()).await });
        for _ in 0..3 {
            runs.recv().await.unwrap();
        }
        self
    }

    /// The page of the operation with this key.
    pub async fn operation(&self, key: &str) -> String {
        format!("{}?operation={}", self.page, self.operator.find("", key).await.unwrap().key)
    }
}
