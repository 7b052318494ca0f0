//! What the page shows.

use http::Method;
use http::header::{CONTENT_SECURITY_POLICY, LOCATION, SET_COOKIE};
use tower_idempotency::{Authorise, Inspector};

use super::{HOSTILE, Trouble, encoded};
use crate::support::lab::secs;

#[tokio::test(start_paused = true)]
async fn at_a_glance_it_says_whether_anything_is_stuck() {
    let trouble = Trouble::new().await;
    let eve = trouble.visitor("eve");
    let page = eve.get("").await;
    page.assert(200, "2 operations need attention");
    page.assert(200, &trouble.unknown[..12]);
    page.assert(200, "3</strong><span>unfinished");
    tokio::time::advance(secs(3 * 3600 + 12 * 60)).await;
    eve.get("").await.assert(200, "The oldest one began 3 h 12 min ago");
    for hash in [&trouble.unknown, &trouble.parked, &trouble.in_doubt] {
        let form = eve.open(hash, "respond").await;
        assert_eq!(eve.submit(&form).await.status, 303);
    }
    eve.get("").await.assert(200, "Nothing needs attention");
}

#[tokio::test(start_paused = true)]
async fn what_is_due_and_not_taken_is_said_so() {
    let trouble = Trouble::new().await;
    let eve = trouble.visitor("eve");
    for hash in [&trouble.unknown, &trouble.parked] {
        let form = eve.open(hash, "respond").await.with("hours", "100");
        assert_eq!(eve.submit(&form).await.status, 303);
    }
    let form = eve.open(&trouble.in_doubt, &format!("did-not-happen&step={}", encoded(HOSTILE))).await;
    assert_eq!(eve.submit(&form).await.status, 303);
    eve.get("").await.assert(200, "Nothing needs attention");
    tokio::time::advance(secs(100)).await;
    eve.get("").await.assert(200, "Is a completer running?");
}

#[tokio::test(start_paused = true)]
async fn what_others_wrote_is_text() {
    let trouble = Trouble::new().await;
    let eve = trouble.visitor("eve");
    let step = format!("&decide=step-done&step={}", encoded(HOSTILE));
    for (query, shows) in [
        (String::new(), true),
        ("?list=unfinished".to_owned(), true),
        (format!("?operation={}", trouble.parked), true),
        (format!("?operation={}", trouble.in_doubt), true),
        (format!("?operation={}{step}", trouble.in_doubt), true),
        (format!("?operation={}&done={}", trouble.parked, encoded(HOSTILE)), true),
        (format!("?list={}", encoded(HOSTILE)), false),
        (format!("?operation={}", encoded(HOSTILE)), false),
        (format!("?list=unfinished&older={}", encoded(HOSTILE)), false),
    ] {
        let page = eve.get(&query).await;
        assert_eq!(page.text.contains("&lt;script&gt;alert("), shows, "{query}: {}", page.text);
        assert!(!page.text.contains("<script") && !page.text.contains("<img"), "{query}: {}", page.text);
    }
    let page = eve.send(Method::POST, "?search", format!("text={}", encoded(HOSTILE))).await;
    assert!(!page.text.contains("<script"), "{}", page.text);
}

#[tokio::test(start_paused = true)]
async fn a_page_loads_nothing_from_elsewhere_and_lies_anywhere() {
    let trouble = Trouble::new().await;
    let eve = trouble.visitor("eve");
    for query in [
        "".to_owned(),
        "?list=unfinished&older=60".to_owned(),
        "?search".to_owned(),
        format!("?operation={}", trouble.in_doubt),
        format!("?operation={}&decide=respond", trouble.unknown),
        "?no-such-page".to_owned(),
    ] {
        let page = eve.get(&query).await;
        let policy = page.headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        for part in [
            "default-src 'none'",
            "style-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{part}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");
        assert_eq!(page.headers["x-content-type-options"], "nosniff");
        assert_eq!(page.headers["cache-control"], "no-store");
        assert_eq!(page.headers["referrer-policy"], "same-origin");
        for start in ["href=\"", "src=\"", "action=\""] {
            for link in page.text.split(start).skip(1) {
                assert!(link.starts_with('?') || link.starts_with('#'), "{query} leads to {:.40}", link);
            }
        }
        assert!(!page.text.contains(" style=") && !page.text.contains("<style"), "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_cookie_is_for_this_site_alone() {
    let trouble = Trouble::new().await;
    let form = format!("?operation={}&decide=park", trouble.unknown);
    let cookie =
        async |visitor: super::Visitor| visitor.get(&form).await.headers[SET_COOKIE].to_str().unwrap().to_owned();
    let plain = cookie(trouble.visitor("eve")).await;
    assert!(plain.ends_with("; HttpOnly; SameSite=Strict") && !plain.contains("Path"), "{plain}");
    let safe = cookie(trouble.visitor("eve").with("sec-fetch-site", "same-origin")).await;
    assert!(safe.ends_with("; SameSite=Strict; Secure"), "{safe}");
    let own = trouble.visitor("eve").with("sec-fetch-site", "same-origin").with("host", "localhost:3000");
    assert!(!cookie(own).await.contains("Secure"));
    assert!(trouble.visitor("eve").get("").await.headers.get(SET_COOKIE).is_none(), "only a form needs it");
}

#[tokio::test(start_paused = true)]
async fn a_search_finds_what_an_operator_has_in_hand() {
    let trouble = Trouble::new().await;
    let eve = trouble.visitor("eve");
    let found = format!("?operation={}", trouble.unknown);
    let reference = format!("{}-1", trouble.unknown);
    for text in ["unknown", "%22unknown%22", &trouble.unknown, &trouble.unknown.to_uppercase(), &reference] {
        let page = eve.send(Method::POST, "?search", format!("text={text}")).await;
        assert_eq!((page.status.as_u16(), &page.headers[LOCATION]), (303, &found.parse().unwrap()), "{text}");
    }
    for form in ["text=unknown&scope=another", "text=unknown&runner=1", "text=no-such"] {
        eve.send(Method::POST, "?search", form.to_owned()).await.assert(404, "There is no such operation");
    }
    eve.send(Method::POST, "?search", "text=".to_owned()).await.assert(400, "Type a key");
}

#[tokio::test(start_paused = true)]
async fn programs_get_json() {
    let trouble = Trouble::new().await;
    let eve = trouble.visitor("eve");
    let (_, overview) = eve.json("").await;
    assert_eq!(overview["needs_attention"].as_array().unwrap().len(), 2);
    assert_eq!(overview["counts"]["unfinished"]["count"], 3);
    let (_, list) = eve.json("?list=complete").await;
    assert_eq!(list["operations"][0]["key"], trouble.complete.as_str());
    let (_, one) = eve.json(&format!("?operation={}", trouble.in_doubt)).await;
    assert_eq!(one["in_doubt"][0], HOSTILE);
    // A browser accepts everything, and gets HTML.
    let browser = trouble.visitor("eve").with("accept", "text/html,application/json;q=0.9,*/*;q=0.8");
    browser.get("").await.assert(200, "<!DOCTYPE html>");
}

#[tokio::test(start_paused = true)]
async fn a_list_goes_on_at_its_next_page() {
    let trouble = Trouble::new().await;
    for number in 0..60 {
        let app = crate::support::lab::numbered(&trouble.lab.layer()).0;
        let request = crate::support::lab::post(&format!("k{number}"));
        crate::support::lab::send(&app, request).await;
    }
    let eve = trouble.visitor("eve");
    let first = eve.get("?list=complete").await;
    let (_, next) = first.text.split_once("class=\"button\" href=\"").expect("a link to the next page");
    let next = next.split('"').next().unwrap().replace("&amp;", "&");
    let second = eve.get(&next).await;
    let count = |page: &super::Page| page.text.matches("class=\"line\"").count();
    assert_eq!((count(&first), count(&second)), (50, 11));
    eve.get("?list=complete&older=3600").await.assert(200, "No operation is in this list");
}

#[tokio::test(start_paused = true)]
async fn who_is_behind_their_own_authentication_may_let_all_in() {
    let trouble = Trouble::new().await;
    let inspector = Inspector::new(trouble.operator.clone(), Authorise::allow_all_as("on call"));
    let visitor = super::Visitor { inspector, ..trouble.visitor("mallory") };
    let form = visitor.open(&trouble.unknown, "park").await;
    assert_eq!(visitor.submit(&form).await.status, 303);
    assert_eq!(super::last(&trouble, &trouble.unknown).await.1.as_deref(), Some("on call"));
}
