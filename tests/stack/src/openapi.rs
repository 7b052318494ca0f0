//! The document of OpenAPI that the guide makes, against what the layer says.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use serde_json::Value;
use tower_idempotency::{IdempotencyLayer, Scope};
use utoipa::openapi::{Components, OpenApi, Ref, RefOr};
use utoipa::{Modify, OpenApi as _};

use crate::{Answer, Gateway, guard, pay, pay_with, send, start};

const PAGE: &str = include_str!("../../../src/guide/openapi.md");
const IDEMPOTENCY: &str = include_str!("../../../src/guide/openapi.json");

// <guide>
/// Adds the key and the problems to what this layer guards.
struct Idempotent;

impl Modify for Idempotent {
    fn modify(&self, api: &mut OpenApi) {
        let mut components: Components = serde_json::from_str(IDEMPOTENCY).unwrap();
        let statuses: Vec<_> =
            components.responses.keys().filter_map(|name| name.strip_prefix("Idempotency")).collect();
        for item in api.paths.paths.values_mut() {
            // As `IdempotencyLayer::methods` is set.
            for operation in item.post.iter_mut().chain(&mut item.patch) {
                let key = Ref::new("#/components/parameters/IdempotencyKey");
                operation.parameters.get_or_insert_default().push(RefOr::Ref(key));
                for status in &statuses {
                    let problem = Ref::new(format!("#/components/responses/Idempotency{status}"));
                    // What the handler says of a status itself stays.
                    operation.responses.responses.entry((*status).to_owned()).or_insert(RefOr::Ref(problem));
                }
            }
        }
        let all = api.components.get_or_insert_default();
        all.parameters.append(&mut components.parameters);
        all.headers.append(&mut components.headers);
        all.schemas.append(&mut components.schemas);
        all.responses.append(&mut components.responses);
    }
}
// </guide>

#[derive(utoipa::OpenApi)]
#[openapi(paths(charge, look), modifiers(&Idempotent))]
struct Api;

/// Charges.
#[utoipa::path(post, path = "/pay", responses((status = 201, description = "charged"), (status = 403, description = "its own")))]
#[expect(dead_code, reason = "only its documentation is used")]
async fn charge() {}

/// Charges nothing.
#[utoipa::path(get, path = "/pay", responses((status = 200, description = "what was charged")))]
#[expect(dead_code, reason = "only its documentation is used")]
async fn look() {}

/// The finished document.
fn document() -> Value {
    serde_json::to_value(Api::openapi()).unwrap()
}

/// What a reference leads to.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    value.get("$ref").map_or(value, |to| document.pointer(&to.as_str().unwrap()[1..]).expect("it leads somewhere"))
}

#[test]
fn the_guide_shows_it() {
    let this = include_str!("openapi.rs");
    let shown = this.split("// <guide>\n").nth(1).and_then(|rest| rest.split("// </guide>").next()).unwrap();
    assert!(PAGE.contains(&format!("```rust,ignore\n{shown}```")), "the snippets differ");
    assert!(PAGE.contains(&format!("```json\n{IDEMPOTENCY}```")), "the components differ");
}

#[test]
fn what_is_guarded_has_the_key_and_the_problems_and_nothing_else_has() {
    let document = document();
    let charge = &document["paths"]["/pay"]["post"];
    let key = resolved(&document, &charge["parameters"][0]);
    assert_eq!((&key["name"], &key["in"]), (&"Idempotency-Key".into(), &"header".into()));
    let statuses: Vec<_> = charge["responses"].as_object().unwrap().keys().collect();
    assert_eq!(statuses, ["201", "400", "403", "408", "409", "413", "422", "500", "503"]);
    assert_eq!(charge["responses"]["403"]["description"], "its own");
    let look = &document["paths"]["/pay"]["get"];
    assert!(look.get("parameters").is_none());
    assert_eq!(look["responses"].as_object().unwrap().len(), 1);
    for response in charge["responses"].as_object().unwrap().values() {
        for header in resolved(&document, response)["headers"].as_object().into_iter().flatten() {
            assert!(resolved(&document, header.1)["schema"].is_object());
        }
    }
}

/// The layer's problems, as far as a request brings them about.
async fn problems() -> Vec<Answer> {
    let (_, layer) = guard();
    let gateway = Gateway::shut();
    let app = |layer: IdempotencyLayer| gateway.routes().layer(layer.required());
    let pays = app(layer.clone());
    let first = start(&pays, pay("running")).await;
    let mut answers = vec![
        send(&pays, Request::post("/pay").body(Body::empty()).unwrap()).await,
        send(&pays, pay_with("\"", "100", &[])).await,
        send(&pays, pay("running")).await,
        send(&pays, pay_with("running", "1000", &[])).await,
        send(&app(layer.clone().request_limit(1)), pay("large")).await,
        send(&app(layer.clone().max_running(0)), pay("busy")).await,
        send(&app(layer.upload_timeout(Duration::from_secs(1))), pay_with("slow", never(), &[])).await,
        send(&app(IdempotencyLayer::new(guard().0, Scope::extension::<u64>())), pay("stranger")).await,
    ];
    gateway.gate.add_permits(1);
    first.await.unwrap();
    answers.push(unknown().await);
    answers
}

/// An upload that goes on for ever.
fn never() -> Body {
    Body::from_stream(Never)
}

struct Never;

impl futures_core::Stream for Never {
    type Item = Result<axum::body::Bytes, std::convert::Infallible>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Pending
    }
}

/// What a retry gets of a handler that panicked.
async fn unknown() -> Answer {
    let (_, layer) = guard();
    async fn panics() -> &'static str {
        panic!("planned")
    }
    let app: Router = Router::new().route("/pay", axum::routing::post(panics)).with_state(()).layer(layer);
    send(&app, pay("k")).await;
    send(&app, pay("k")).await
}

#[tokio::test(start_paused = true)]
async fn what_the_layer_says_is_in_the_document() {
    let document = document();
    let schema = &document["components"]["schemas"]["IdempotencyProblem"];
    let responses = &document["components"]["responses"];
    let mut seen = BTreeSet::new();
    for answer in problems().await {
        let problem: Value = serde_json::from_slice(&answer.body).unwrap();
        let code = problem["code"].as_str().unwrap();
        let response = &responses[format!("Idempotency{}", answer.status)];
        assert!(response["description"].as_str().unwrap().contains(code), "{code} with {}", answer.status);
        assert!(response["content"][answer.headers["content-type"].to_str().unwrap()].is_object());
        let says_when = response["headers"]["Retry-After"].is_object();
        assert!(says_when || !answer.headers.contains_key("retry-after"), "{code}");
        let required = schema["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
        assert!(required.into_iter().all(|name| problem.get(name).is_some()), "{problem}");
        let mut members = problem.as_object().unwrap().keys();
        assert!(members.all(|name| schema["properties"][name].is_object()), "{problem}");
        assert!(schema["properties"]["code"]["enum"].as_array().unwrap().contains(&problem["code"]), "{code}");
        seen.insert(code.to_owned());
    }
    assert_eq!(seen.len(), 9, "{seen:?}");
}

/// The codes of the document are those of the guide, less those of status resources and of
/// gRPC, which has no documents of OpenAPI.
#[test]
fn it_has_the_codes_of_the_guide() {
    let table = include_str!("../../../src/guide/problems.md");
    let rows = table.lines().filter(|line| line.starts_with("| `") && line.matches(" | ").count() == 3);
    let rows = rows.filter(|line| !line.contains("a status resource") && !line.contains("only of gRPC"));
    let mut codes: Vec<_> = rows.map(|line| line.split('`').nth(1).unwrap()).collect();
    let document = document();
    let known = &document["components"]["schemas"]["IdempotencyProblem"]["properties"]["code"]["enum"];
    let mut known: Vec<_> = known.as_array().unwrap().iter().map(|code| code.as_str().unwrap()).collect();
    codes.sort_unstable();
    known.sort_unstable();
    assert_eq!(known, codes);
}
