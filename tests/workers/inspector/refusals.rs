//! Requests that are refused: each says why, and changes nothing.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, LOCATION, WWW_AUTHENTICATE};
use http::{Method, Request};
use http_body::{Body, Frame};
use tower::ServiceExt;
use tower_idempotency::core::Resolution;

use super::{Trouble, Visitor};

#[tokio::test(start_paused = true)]
async fn a_request_that_is_denied_learns_nothing() {
    let trouble = Trouble::new().await;
    let before = trouble.versions().await;
    let calls = trouble.lab.store.calls();
    let queries = [
        String::new(),
        "?list=unfinished".to_owned(),
        "?json".to_owned(),
        format!("?operation={}", trouble.unknown),
        format!("?operation={}&decide=run-again", trouble.unknown),
        format!("?operation={}", "0".repeat(64)),
        "?no-such-page".to_owned(),
        "?search".to_owned(),
    ];
    for (user, status) in [("mallory", 403), ("basic", 401), ("new", 303)] {
        let visitor = trouble.visitor(user);
        let mut texts = Vec::new();
        for query in &queries {
            for method in [Method::GET, Method::POST, Method::PUT] {
                let page = visitor.send(method, query, "text=unknown&why=x".to_owned()).await;
                assert_eq!(page.status, status, "{query}");
                assert!(!page.text.contains(&trouble.unknown[..12]));
                texts.push(page.text);
            }
        }
        assert!(texts.iter().all(|text| *text == texts[0]), "a refusal says which page there is");
    }
    let page = trouble.visitor("basic").get("").await;
    assert_eq!(page.headers[WWW_AUTHENTICATE], "Basic realm=\"operators\"");
    let page = trouble.visitor("new").get("").await;
    assert_eq!(page.headers[LOCATION], "/login");
    trouble.visitor("eve").without("x-user").get("").await.assert(401, "Log in");
    assert_eq!(trouble.lab.store.calls(), calls, "the store was asked for a request that is denied");
    assert_eq!(trouble.versions().await, before);
}

#[tokio::test(start_paused = true)]
async fn those_who_only_look_decide_nothing() {
    let trouble = Trouble::new().await;
    let before = trouble.versions().await;
    let form = trouble.visitor("eve").open(&trouble.unknown, "run-again").await;
    for user in ["ann", "nameless"] {
        let visitor = trouble.visitor(user);
        let page = visitor.get(&format!("?operation={}", trouble.unknown)).await;
        page.assert(200, "outcome unknown");
        assert!(!page.text.contains("decide="), "a link to what they may not: {}", page.text);
        visitor.get(&form.action).await.assert(403, "You may look, and not decide");
        visitor.submit(&form).await.assert(403, "You may look, and not decide");
    }
    assert_eq!(trouble.versions().await, before);
}

#[tokio::test(start_paused = true)]
async fn a_forged_form_changes_nothing() {
    let trouble = Trouble::new().await;
    let before = trouble.versions().await;
    let eve = || trouble.visitor("eve");
    let form = eve().open(&trouble.unknown, "run-again").await;
    let hers = trouble.visitor("zoe").open(&trouble.unknown, "run-again").await;
    let other = eve().open(&trouble.unknown, "run-again").await;
    let token = |form: &super::Form| form.fields.iter().find(|(name, _)| name == "token").unwrap().1.clone();
    let no_cookie = super::Form { cookie: None, ..form.clone() };
    let odd_cookie = super::Form { cookie: Some("idempotency-inspector=12".to_owned()), ..form.clone() };
    let forged = [
        ("no token", form.clone().without("token")),
        ("no hexadecimal token", form.clone().with("token", "x")),
        ("a wrong token", form.clone().with("token", &"0".repeat(64))),
        ("a token of another cookie", form.clone().with("token", &token(&other))),
        ("another person's token and cookie", super::Form { action: form.action.clone(), ..hers }),
        ("no cookie", no_cookie),
        ("no secret in the cookie", odd_cookie),
    ];
    for (what, form) in &forged {
        let page = eve().submit(form).await;
        assert_eq!(page.status, 403, "{what}");
        page.assert(403, "not sent from this page");
    }
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "none"),
        ("origin", "https://evil.test"),
        ("origin", "null"),
        ("origin", "https://ops.test.evil.test"),
    ] {
        let page = eve().with(name, value).submit(&form).await;
        assert_eq!(page.status, 403, "{name}: {value}");
    }
    assert_eq!(trouble.versions().await, before);
    assert_eq!(trouble.lab.events.count("Decided"), 0);
    for (name, value) in [("sec-fetch-site", "same-origin"), ("origin", "https://ops.test")] {
        let form = eve().open(&trouble.unknown, "park").await;
        let page = eve().with(name, value).submit(&form).await;
        assert_eq!(page.status, 303, "{name}: {value}: {}", page.text);
        let shown = trouble.shown(&trouble.unknown).await;
        trouble.operator.resolve(&shown, Resolution::RunAgain).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_decision_changes_nothing_and_says_what_happened() {
    let trouble = Trouble::new().await;
    let eve = trouble.visitor("eve");
    let form = eve.open(&trouble.unknown, "run-again").await;
    let zoe = trouble.visitor("zoe");
    let first = zoe.open(&trouble.unknown, "park").await.with("why", "the bank <looks> for it");
    assert_eq!(zoe.submit(&first).await.status, 303);
    let before = trouble.versions().await;
    let page = eve.submit(&form).await;
    page.assert(409, "The operation changed meanwhile");
    page.assert(409, "the bank &lt;looks&gt; for it");
    page.assert(409, "by zoe");
    // What was there already is not what is new.
    assert!(!page.text.contains("First attempt began"), "{}", page.text);
    // A second look, and a form that lies about what it shows.
    eve.submit(&form.clone().without("version")).await.assert(409, "changed meanwhile");
    eve.submit(&form.clone().with("events", "99999999999999999999999")).await.assert(409, "changed meanwhile");
    let (status, json) = eve.json(&format!("?operation={}", trouble.unknown)).await;
    assert_eq!((status.as_u16(), &json["state"]), (200, &"parked".into()));
    assert_eq!(trouble.versions().await, before);
}

#[tokio::test(start_paused = true)]
async fn what_a_person_may_not_see_does_not_exist() {
    let trouble = Trouble::new().await;
    let before = trouble.versions().await;
    let tim = trouble.visitor("tim");
    // A form that would do, were it for an operation that they see.
    let form = tim.open(&trouble.in_doubt, "run-again").await;
    for what in ["", "&decide=run-again", "&decide=forget", "&json"] {
        let theirs = tim.get(&format!("?operation={}{what}", trouble.unknown)).await;
        let absent = tim.get(&format!("?operation={}{what}", "0".repeat(64))).await;
        assert_eq!((theirs.status.as_u16(), &theirs.text), (404, &absent.text), "{what}");
        let form = super::Form { action: form.action.replace(&trouble.in_doubt, &trouble.unknown), ..form.clone() };
        tim.submit(&form).await.assert(404, "There is no such operation");
    }
    for text in ["unknown", &trouble.unknown, &format!("{}-1", trouble.unknown)] {
        let theirs = tim.send(Method::POST, "?search", format!("text={text}")).await;
        let absent = tim.send(Method::POST, "?search", "text=no-such-key".to_owned()).await;
        assert_eq!((theirs.status.as_u16(), &theirs.text), (404, &absent.text), "{text}");
    }
    for query in ["", "?list=unfinished", "?list=complete", "?list=needs-attention"] {
        let page = tim.get(query).await;
        assert!(!page.text.contains(&trouble.unknown[..12]) && !page.text.contains(&trouble.complete[..12]), "{query}");
    }
    tim.get("?list=unfinished").await.assert(200, "POST /orders/9");
    assert!(!tim.get("").await.text.contains("In the store"), "counts tell of others");
    assert_eq!(trouble.versions().await, before);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_said_so() {
    let trouble = Trouble::new().await;
    let eve = trouble.visitor("eve");
    let unknown = "0".repeat(64);
    for (query, status) in [
        (format!("?operation={unknown}"), 404),
        (format!("?operation={unknown}&decide=run-again"), 404),
        ("?operation=order-17".to_owned(), 400),
        (format!("?operation={}&decide=no-such", trouble.unknown), 404),
        // Only complete operations are forgotten.
        (format!("?operation={}&decide=forget", trouble.unknown), 409),
        (format!("?operation={}&decide=step-done&step=no-such", trouble.in_doubt), 409),
        (format!("?operation={}&decide=run-again", trouble.complete), 409),
        ("?list=no-such".to_owned(), 404),
        ("?list=unfinished&after=here".to_owned(), 400),
        ("?list=unfinished&older=long".to_owned(), 400),
        ("?no-such-page".to_owned(), 404),
    ] {
        assert_eq!(eve.get(&query).await.status, status, "{query}");
        let (of_json, json) = eve.json(&query).await;
        assert_eq!(of_json, status, "{query}");
        assert!(json["title"].is_string() && json["detail"].is_string(), "{json}");
    }
}

#[tokio::test(start_paused = true)]
async fn other_methods_are_refused_and_head_has_no_body() {
    let trouble = Trouble::new().await;
    let eve = trouble.visitor("eve");
    for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        let page = eve.send(method, "", String::new()).await;
        page.assert(405, "no such method");
        assert_eq!(page.headers[ALLOW], "GET, HEAD, POST");
    }
    let page = eve.send(Method::POST, "?list=unfinished", String::new()).await;
    page.assert(405, "no such method");
    for query in ["", "?style", "?list=unfinished", "?no-such-page"] {
        let (get, head) = (eve.get(query).await, eve.send(Method::HEAD, query, String::new()).await);
        assert_eq!((head.status, head.text.as_str()), (get.status, ""));
        assert_eq!(head.headers[CONTENT_LENGTH], get.text.len().to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn input_that_makes_no_sense_changes_nothing() {
    let trouble = Trouble::new().await;
    let before = trouble.versions().await;
    let eve = trouble.visitor("eve");
    let run = eve.open(&trouble.unknown, "run-again").await;
    let respond = eve.open(&trouble.unknown, "respond").await;
    let step = format!("step-done&step={}", super::encoded(super::HOSTILE));
    let done = eve.open(&trouble.in_doubt, &step).await;
    for form in [
        run.clone().without("why"),
        run.clone().with("why", " \t "),
        respond.clone().with("status", "100"),
        respond.clone().with("status", "600"),
        respond.clone().without("status"),
        respond.clone().with("hours", "0"),
        respond.clone().with("hours", "-1"),
        respond.clone().with("type", "text/plain\r\nset-cookie: a=b"),
        done.clone(),
        done.clone().with("value", "{"),
    ] {
        let page = eve.submit(&form).await;
        assert_eq!(page.status, 400, "{:?}", form.fields);
    }
    eve.submit(&run.with("padding", &"x".repeat(400_000))).await.assert(413, "too large");
    assert_eq!(trouble.versions().await, before);
}

/// A body that breaks off, or one that never comes.
struct Bad {
    breaks: bool,
}

impl Body for Bad {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.breaks { Poll::Ready(Some(Err(std::io::Error::other("reset")))) } else { Poll::Pending }
    }
}

#[tokio::test(start_paused = true)]
async fn a_form_that_does_not_arrive_is_refused() {
    let trouble = Trouble::new().await;
    let eve = trouble.visitor("eve");
    for (breaks, status) in [(true, 400), (false, 408)] {
        let request = Request::post("/?search").header("x-user", "eve").body(Bad { breaks }).unwrap();
        assert_eq!(eve.inspector.clone().oneshot(request).await.unwrap().status(), status);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_said_so() {
    let trouble = Trouble::new().await;
    let eve = trouble.visitor("eve");
    let form = eve.open(&trouble.unknown, "run-again").await;
    trouble.lab.store.down();
    for query in ["", "?list=unfinished", &format!("?operation={}", trouble.unknown)] {
        eve.get(query).await.assert(503, "The store does not answer");
    }
    eve.submit(&form).await.assert(503, "The store does not answer");
    trouble.lab.store.heal();
    eve.get("").await.assert(200, "need attention");
    assert_eq!(trouble.lab.events.count("Decided"), 0);
}

#[tokio::test(start_paused = true)]
async fn the_style_is_there_for_the_page_that_denies() {
    let trouble = Trouble::new().await;
    let visitor = Visitor::new(&trouble.lab, "mallory");
    let style = visitor.get("?style").await;
    assert_eq!(
        (style.status.as_u16(), &style.headers["content-type"]),
        (200, &"text/css; charset=utf-8".parse().unwrap())
    );
    assert_eq!(visitor.get("?icon").await.status, 200);
}
