//! The inspector, as an operator has it: in headless Chromium.
//!
//! `SCREENSHOTS=DIR cargo test -p browser` also leaves pictures of the pages there.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

mod browser;
mod scene;

use thirtyfour::Key;

use self::browser::Browser;
use self::scene::{HOSTILE, Scene};

/// Of each element with a text of its own: how its colour stands out from what is behind it,
/// as WCAG counts it. The least of them, and its text.
const LEAST_CONTRAST: &str = r#"
const parse = (text) => text.match(/[\d.]+/g).map(Number);
const light = ([r, g, b]) => {
  const part = [r, g, b].map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
};
const ground = (node) => {
  for (; node; node = node.parentElement) {
    const colour = parse(getComputedStyle(node).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
let least = [99, ''];
for (const node of document.body.querySelectorAll('*')) {
  const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  if (!own) continue;
  const pair = [light(parse(getComputedStyle(node).color)), light(ground(node))].sort((a, b) => b - a);
  const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
  if (ratio < least[0]) least = [ratio, node.textContent];
}
return least;
"#;

/// What has the focus.
async fn focus(browser: &Browser) -> String {
    let text = "const at = document.activeElement; return at.innerText || at.name || at.tagName";
    browser.evaluate(text).await.as_str().unwrap().to_owned()
}

async fn tab_to(browser: &Browser, text: &str) {
    for _ in 0..40 {
        if focus(browser).await.trim() == text {
            let outline = "return getComputedStyle(document.activeElement).outlineStyle \
                           + getComputedStyle(document.activeElement, '::after').outlineStyle";
            let outline = browser.evaluate(outline).await;
            assert!(outline.as_str().unwrap().contains("solid"), "{text} shows no focus: {outline}");
            return;
        }
        browser.press(Key::Tab).await;
    }
    panic!("no tab leads to {text:?}:\n{}", browser.text().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_view_says_what_is_stuck() {
    let scene = Scene::stuck().await;
    let browser = Browser::start().await;
    browser.client.goto(&scene.page).await.unwrap();
    browser.says("2 operations need attention").await;
    // As text, and not as what it would be.
    assert!(browser.text().await.contains(HOSTILE));
    assert!(browser.client.title().await.unwrap().starts_with("Overview"));
    browser.picture("stuck").await;
    let elsewhere = "return performance.getEntriesByType('resource').map((it) => it.name)";
    let loaded: Vec<String> = serde_json::from_value(browser.evaluate(elsewhere).await).unwrap();
    assert!(loaded.iter().any(|it| it.contains("style=")), "{loaded:?}");
    assert!(loaded.iter().all(|it| it.starts_with(&scene.page)), "{loaded:?}");
    browser.client.goto(&scene.operation("cart-3").await).await.unwrap();
    browser.says("charge the card of the customer").await;
    browser.picture("operation").await;
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_nothing_is_stuck_it_says_so() {
    let scene = Scene::calm().await;
    let browser = Browser::start().await;
    browser.client.goto(&scene.page).await.unwrap();
    browser.says("Nothing needs attention").await;
    browser.picture("calm").await;
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_light_and_in_the_dark_it_can_be_read() {
    let scene = Scene::stuck_and_scheduled().await;
    let browser = Browser::start().await;
    let form = format!("{}&decide=respond", scene.operation("order-17").await);
    let pages = [
        ("overview", scene.page.clone()),
        ("list", format!("{}?list=unfinished", scene.page)),
        ("search", format!("{}?search", scene.page)),
        ("maintenance", format!("{}?maintenance", scene.page)),
        ("schedules", format!("{}?schedule", scene.page)),
        ("schedule", format!("{}?schedule=often", scene.page)),
        ("schedule-form", format!("{}?schedule=often&do=back-fill", scene.page)),
        ("one", scene.operation("cart-3").await),
        ("form", form),
        ("absent", format!("{}?operation={}", scene.page, "0".repeat(64))),
    ];
    for shade in ["light", "dark"] {
        if shade == "dark" {
            browser.is_dark().await;
        }
        for (name, page) in &pages {
            browser.client.goto(page).await.unwrap();
            let least = browser.evaluate(LEAST_CONTRAST).await;
            assert!(least[0].as_f64().unwrap() >= 4.5, "{shade} {name}: {least}");
            browser.picture(&format!("{shade}-{name}")).await;
        }
    }
    let ground = browser.evaluate("return getComputedStyle(document.body).backgroundColor").await;
    assert_eq!(ground, "rgb(18, 21, 27)", "the dark is not dark");
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_scrolls_in_one_direction() {
    let scene = Scene::stuck().await;
    let browser = Browser::start().await;
    browser.is_phone().await;
    let pages = [
        scene.page.clone(),
        format!("{}?list=needs-attention", scene.page),
        format!("{}?search", scene.page),
        format!("{}?maintenance", scene.page),
        scene.operation("refund-9").await,
        scene.operation("cart-3").await,
        format!("{}&decide=respond", scene.operation("refund-9").await),
    ];
    for (at, page) in pages.iter().enumerate() {
        browser.client.goto(page).await.unwrap();
        let width = browser.evaluate("return [innerWidth, document.documentElement.scrollWidth]").await;
        assert_eq!(width, serde_json::json!([360, 360]), "{page}");
        browser.picture(&format!("phone-{at}")).await;
    }
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyboard_is_enough_to_decide() {
    let scene = Scene::stuck().await;
    let browser = Browser::start().await;
    browser.client.goto(&scene.page).await.unwrap();
    browser.press(Key::Tab).await;
    assert_eq!(focus(&browser).await, "Skip to the content");
    browser.press(Key::Enter).await;
    let name = format!("Operation {}", &scene.operator.find("", "order-17").await.unwrap().key.to_string()[..12]);
    tab_to(&browser, &name).await;
    browser.press(Key::Enter).await;
    browser.says("What happened").await;
    tab_to(&browser, "Run again").await;
    browser.press(Key::Enter).await;
    browser.says("Run again?").await;
    // The reason has the focus, and Enter sends the form.
    assert_eq!(focus(&browser).await, "why");
    browser.type_into("why", "the bank says no").await;
    browser.press(Key::Enter).await;
    browser.says("Done: run again").await;
    let history = scene.operator.find("", "order-17").await.unwrap().record.history();
    let decided = history.last().unwrap();
    assert_eq!(decided.by.as_deref(), Some("Eve"));
    assert!(decided.text.as_deref().unwrap().contains("the bank says no"), "{decided:?}");
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_looked_at_paused_and_run_by_hand() {
    let scene = Scene::scheduled().await;
    let browser = Browser::start_without_javascript().await;
    browser.client.goto(&scene.page).await.unwrap();
    browser.click("Schedules").await;
    browser.says("daily-export").await;
    browser.picture("schedules").await;
    browser.click("often").await;
    browser.says("failed").await;
    browser.click("Pause it").await;
    browser.type_into("why", "the disk is full").await;
    browser.picture("schedule-pause").await;
    browser.click("Pause it").await;
    browser.says("Paused by Eve: the disk is full").await;
    browser.click("Run it now").await;
    browser.type_into("why", "the disk is mended").await;
    browser.click("Run it now").await;
    browser.says("by Eve: the disk is mended").await;
    browser.client.goto(&format!("{}?schedule=daily-export", scene.page)).await.unwrap();
    browser.click("Run periods once more").await;
    browser.type_into("from", "01012025").await;
    browser.picture("schedule-back-fill").await;
    browser.client.goto(&format!("{}?schedule=often", scene.page)).await.unwrap();
    browser.picture("schedule").await;
    let shown = scene.operator.schedule("often").await.unwrap();
    assert_eq!(shown.paused.unwrap().by.as_deref(), Some("Eve"));
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_works_without_javascript() {
    let scene = Scene::stuck().await;
    let browser = Browser::start_without_javascript().await;
    browser.client.goto(&format!("{}?search", scene.page)).await.unwrap();
    browser.type_into("text", "order-17").await;
    browser.click("Find it").await;
    browser.says("outcome unknown").await;
    browser.click("Store a response").await;
    browser.says("Store a response?").await;
    browser.type_into("status", "201").await;
    browser.type_into("body", "{\"charge\":\"ch_1\"}").await;
    browser.type_into("why", "the bank has it").await;
    browser.click("Store a response").await;
    browser.says("Done: store a response").await;
    browser.picture("decided").await;
    let shown = scene.operator.find("", "order-17").await.unwrap();
    assert_eq!(shown.record.response().unwrap().body().unwrap(), "{\"charge\":\"ch_1\"}");
    browser.end().await;
}
