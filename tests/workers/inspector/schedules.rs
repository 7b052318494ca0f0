//! Schedules, looked at and steered on the page.

use tower_idempotency::ShownSchedule;
use tower_idempotency::schedule::{Schedule, Scheduler, Timing};

use super::{Form, HOSTILE, Trouble, Visitor};
use crate::support::lab::secs;

/// A trouble with a schedule of which one run failed, and others are complete.
async fn scheduled() -> (Trouble, tokio::task::JoinHandle<()>) {
    let trouble = Trouble::new().await;
    let hourly = Schedule::new("hourly", Timing::every(secs(3600)).unwrap()).max_tries(1);
    let first = std::sync::atomic::AtomicBool::new(true);
    let work = move |_, _| {
        let is_first = first.swap(false, std::sync::atomic::Ordering::Relaxed);
        async move { if is_first { Err("the disk is full") } else { Ok(()) } }
    };
    let scheduler = Scheduler::new(trouble.lab.engine()).schedule(hourly, work).unwrap();
    let process = tokio::spawn(async move { scheduler.run(std::future::pending()).await });
    tokio::time::sleep(secs(3 * 3600)).await;
    (trouble, process)
}

async fn stands(trouble: &Trouble) -> ShownSchedule {
    trouble.operator.schedule("hourly").await.unwrap()
}

async fn form(visitor: &Visitor, what: &str) -> Form {
    let page = visitor.get(&format!("?schedule=hourly&do={what}")).await;
    assert_eq!(page.status, 200, "{}", page.text);
    page.form()
}

#[tokio::test(start_paused = true)]
async fn a_schedule_shows_its_state_what_ran_and_what_comes_next() {
    let (trouble, process) = scheduled().await;
    let eve = trouble.visitor("eve");
    eve.get("").await.assert(200, "href=\"?schedule\"");
    eve.get("?schedule").await.assert(200, "every 3600s");
    let page = eve.get("?schedule=hourly").await;
    page.assert(200, "badge bad\">failed");
    page.assert(200, "badge good\">complete");
    let shown = stands(&trouble).await;
    let failed = trouble.operator.find_of_runner(&shown.scope(), shown.ended[0].period.name()).await.unwrap();
    page.assert(200, &format!("?operation={}", failed.key));
    eve.get(&format!("?operation={}", failed.key)).await.assert(200, "attempt");
    let (status, json) = eve.json("?schedule=hourly").await;
    assert_eq!((status.as_u16(), &json["ended"][0]["end"]), (200, &"failed".into()));
    assert_eq!(json["next"].as_array().unwrap().len(), 5);
    assert_eq!(eve.json("?schedule").await.1["schedules"][0]["name"], "hourly");
    eve.get("?schedule=weekly").await.assert(404, "There is no such schedule");
    process.abort();
}

#[tokio::test(start_paused = true)]
async fn a_schedule_is_paused_run_by_hand_and_gone_on_with() {
    let (trouble, process) = scheduled().await;
    let eve = trouble.visitor("eve");
    assert_eq!(eve.submit(&form(&eve, "pause").await.with("why", HOSTILE).with("by", "zoe")).await.status, 303);
    let paused = stands(&trouble).await.paused.unwrap();
    assert_eq!((paused.by.as_deref(), paused.why.as_deref()), (Some("eve"), Some(HOSTILE)));
    let page = eve.get("?schedule=hourly").await;
    page.assert(200, "Paused by eve: &quot;&gt;&lt;script&gt;");
    assert!(!page.text.contains("<script>"));

    let run = form(&eve, "run").await;
    assert_eq!(eve.submit(&run).await.status, 303);
    eve.submit(&run).await.assert(409, "changed meanwhile");
    assert_eq!(stands(&trouble).await.asked.len(), 1, "sent twice, it runs once");
    assert_eq!(eve.submit(&form(&eve, "go-on").await).await.status, 303);
    assert_eq!(stands(&trouble).await.paused, None);

    let fill = form(&eve, "back-fill").await.with("from", "1970-01-01T00:00").with("until", "1970-01-01T02:00");
    assert_eq!(eve.submit(&fill).await.status, 303);
    tokio::time::sleep(secs(60)).await;
    let by_hand = |shown: ShownSchedule| shown.ended.into_iter().filter(|ended| ended.period.is_by_hand()).count();
    assert_eq!(by_hand(stands(&trouble).await), 3, "one now, and two");
    let none = form(&eve, "back-fill").await.with("from", "1970-01-01T00:30").with("until", "1970-01-01T00:40");
    eve.submit(&none).await.assert(400, "No period");
    process.abort();
}

#[tokio::test(start_paused = true)]
async fn times_of_a_back_fill_are_those_of_the_schedules_zone() {
    let trouble = Trouble::new().await;
    let nightly = Schedule::new("hourly", Timing::daily("America/New_York", "02:00").unwrap());
    let scheduler =
        Scheduler::new(trouble.lab.engine()).schedule(nightly, |_, _| async { Ok::<_, String>(()) }).unwrap();
    let process = tokio::spawn(async move { scheduler.run(std::future::pending()).await });
    tokio::time::sleep(secs(60)).await;
    let eve = trouble.visitor("eve");
    eve.get("?schedule=hourly&do=back-fill").await.assert(200, "From, in America/New_York");
    // In UTC, neither begins at that time.
    let fill = form(&eve, "back-fill").await.with("from", "2000-10-28T02:00").with("until", "2000-10-29T02:00");
    assert_eq!(eve.submit(&fill).await.status, 303);
    tokio::time::sleep(secs(60)).await;
    let ran: Vec<_> = stands(&trouble).await.ended.into_iter().map(|ended| ended.period.begin().as_millis()).collect();
    // The clocks were put back after the second one.
    assert_eq!(ran, [972_712_800_000, 972_802_800_000]);
    let wrong = form(&eve, "back-fill").await.with("from", "yesterday").with("until", "2000-10-29T02:00");
    eve.submit(&wrong).await.assert(400, "in the schedule's own zone");
    process.abort();
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_is_retired_is_forgotten() {
    let (trouble, process) = scheduled().await;
    process.abort();
    let eve = trouble.visitor("eve");
    let forget = form(&eve, "forget").await.with("why", "it moved");
    assert_eq!(eve.submit(&forget).await.status, 303);
    eve.get("?schedule").await.assert(200, "No process has run a schedule");
    eve.submit(&forget).await.assert(404, "There is no such schedule");
}

#[tokio::test(start_paused = true)]
async fn those_who_may_not_decide_change_no_schedule_and_no_form_is_forged() {
    let (trouble, process) = scheduled().await;
    let eve = trouble.visitor("eve");
    let pause = form(&eve, "pause").await;
    for user in ["ann", "max", "nameless"] {
        let visitor = trouble.visitor(user);
        let page = visitor.get("?schedule=hourly").await;
        assert!(page.status == 200 && !page.text.contains("do=pause"), "{}", page.text);
        visitor.get("?schedule=hourly&do=pause").await.assert(403, "You may look");
        visitor.submit(&pause).await.assert(403, "You may look");
    }
    let tim = trouble.visitor("tim");
    tim.get("?schedule").await.assert(404, "no such page");
    tim.get("?schedule=hourly").await.assert(404, "no such page");
    tim.submit(&pause).await.assert(403, "You may look");
    eve.submit(&pause.clone().without("token")).await.assert(403, "not sent from this page");
    trouble.visitor("zoe").submit(&pause).await.assert(403, "not sent from this page");
    let elsewhere = trouble.visitor("eve").with("sec-fetch-site", "cross-site");
    elsewhere.submit(&pause).await.assert(403, "not sent from this page");
    assert_eq!(stands(&trouble).await.paused, None);
    process.abort();
}
