//! Maintenance windows, planned and changed on the page.

use http::{Method, StatusCode};
use tower_idempotency::core::Timestamp;
use tower_idempotency::maintenance::{Covers, PlannedWindow};

use super::{Form, Trouble, Visitor};

/// A form that plans a window of two hours, a day from now.
async fn form(max: &Visitor) -> Form {
    let page = max.get("?maintenance").await;
    assert_eq!(page.status, 200, "{}", page.text);
    let soon = page.form().fields.iter().find(|(name, _)| name == "from").unwrap().1.clone();
    let year: u32 = soon[..4].parse().unwrap();
    let at = |hour: u32| format!("{}-05-01T{hour:02}:00", year + 1);
    let form = page.form().with("from", &at(20)).with("until", &at(22)).with("covers", "all");
    form.with("why", "the database <moves>").with("lead", "15")
}

async fn windows(trouble: &Trouble) -> Vec<PlannedWindow> {
    trouble.operator.windows().await.unwrap().0
}

fn until(planned: &PlannedWindow) -> u64 {
    planned.window.until.since(planned.window.from).as_secs()
}

#[tokio::test(start_paused = true)]
async fn a_window_is_planned_extended_and_ended() {
    let trouble = Trouble::new().await;
    let max = trouble.visitor("max");
    max.get("").await.assert(200, "attention");
    assert!(!max.get("").await.text.contains("<h2>Maintenance"));
    let plan = form(&max).await.with("by", "zoe");
    assert_eq!(max.submit(&plan).await.status, 303);
    let planned = windows(&trouble).await.remove(0);
    assert_eq!((planned.by.as_deref(), until(&planned), planned.window.lead.as_secs()), (Some("max"), 7200, 900));
    for query in ["", "?maintenance"] {
        max.get(query).await.assert(200, "the database &lt;moves&gt;");
        max.get(query).await.assert(200, "15 min before it begins");
    }
    let (_, json) = max.json("?maintenance").await;
    assert_eq!(
        (&json["windows"][0]["state"], &json["windows"][0]["id"]),
        (&"planned".into(), &planned.id.as_str().into())
    );
    assert_eq!(max.json("").await.1["maintenance"], json["windows"]);

    let extend = max.get(&format!("?maintenance=extend&window={}", planned.id)).await.form();
    let later = extend.fields.iter().find(|(name, _)| name == "until").unwrap().1.replace("T22", "T23");
    assert_eq!(max.submit(&extend.with("until", &later)).await.status, 303);
    assert_eq!(until(&windows(&trouble).await[0]), 3 * 3600);
    let end = max.get(&format!("?maintenance=end&window={}", planned.id)).await.form();
    assert_eq!(max.submit(&end).await.status, 303);
    assert!(windows(&trouble).await.is_empty());
    max.get("?maintenance").await.assert(200, "No window is planned");
}

#[tokio::test(start_paused = true)]
async fn a_window_may_cover_a_path_or_a_scope() {
    let trouble = Trouble::new().await;
    let max = trouble.visitor("max");
    let plan = form(&max).await;
    for (covers, name) in [("route", "/payments"), ("scope", "tenant-1")] {
        assert_eq!(max.submit(&plan.clone().with("covers", covers).with("name", name)).await.status, 303);
    }
    let covered: Vec<_> = windows(&trouble).await.into_iter().map(|planned| planned.window.covers).collect();
    assert!(covered.contains(&Covers::Route("/payments".to_owned())), "{covered:?}");
    assert!(covered.contains(&Covers::Scope("tenant-1".to_owned())), "{covered:?}");
}

#[tokio::test(start_paused = true)]
async fn those_who_may_not_plan_change_no_window() {
    let trouble = Trouble::new().await;
    let max = trouble.visitor("max");
    let plan = form(&max).await;
    assert_eq!(max.submit(&plan).await.status, 303);
    let before = windows(&trouble).await;
    let end = max.get(&format!("?maintenance=end&window={}", before[0].id)).await.form();
    for user in ["eve", "ann", "nameless", "tim"] {
        let visitor = trouble.visitor(user);
        for form in [&plan, &end] {
            visitor.submit(form).await.assert(403, "You may look, and not plan");
        }
    }
    for user in ["eve", "ann", "nameless"] {
        let page = trouble.visitor(user).get("?maintenance").await;
        page.assert(200, "the database");
        assert!(!page.text.contains("<form") && !page.text.contains("maintenance=end"), "{}", page.text);
        trouble.visitor(user).get(&end.action).await.assert(403, "You may look, and not plan");
    }
    // Windows concern all operations, and may name another tenant.
    trouble.visitor("tim").get("?maintenance").await.assert(404, "There is no such page");
    assert!(!trouble.visitor("tim").get("").await.text.contains("the database"));
    for forged in [plan.clone().without("token"), Form { cookie: None, ..end.clone() }] {
        max.submit(&forged).await.assert(403, "not sent from this page");
    }
    trouble.visitor("max").with("origin", "https://evil.test").submit(&end).await.assert(403, "not sent from");
    assert_eq!(windows(&trouble).await, before);
}

#[tokio::test(start_paused = true)]
async fn a_window_that_changed_meanwhile_stays() {
    let trouble = Trouble::new().await;
    let max = trouble.visitor("max");
    assert_eq!(max.submit(&form(&max).await).await.status, 303);
    let planned = windows(&trouble).await.remove(0);
    let end = max.get(&format!("?maintenance=end&window={}", planned.id)).await.form();
    let later = Timestamp::from_millis(planned.window.until.as_millis() + 3_600_000);
    trouble.operator.extend(&planned, later).await.unwrap();
    let before = windows(&trouble).await;
    max.submit(&end).await.assert(409, "The window changed meanwhile");
    max.submit(&end.clone().without("seen")).await.assert(409, "The window changed meanwhile");
    assert_eq!(windows(&trouble).await, before);
    trouble.operator.end(&before[0]).await.unwrap();
    max.submit(&end).await.assert(404, "There is no such maintenance window");
}

#[tokio::test(start_paused = true)]
async fn a_window_that_makes_no_sense_is_refused() {
    let trouble = Trouble::new().await;
    let max = trouble.visitor("max");
    let plan = form(&max).await;
    let from = plan.fields.iter().find(|(name, _)| name == "from").unwrap().1.clone();
    for form in [
        plan.clone().with("until", &from),
        plan.clone().with("until", "2001-01-01T00:00").with("from", "2000-01-01T00:00"),
        plan.clone().with("until", "tonight at ten"),
        plan.clone().without("from"),
        plan.clone().without("why"),
        plan.clone().with("lead", "-1"),
        plan.clone().with("covers", "route").with("name", "payments"),
    ] {
        let page = max.submit(&form).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{:?}: {}", form.fields, page.text);
    }
    let unknown = max.send(Method::GET, "?maintenance=end&window=0", String::new()).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert!(windows(&trouble).await.is_empty());
}
