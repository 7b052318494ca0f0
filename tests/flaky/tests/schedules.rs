//! Some schedules; `FLAKY_SCHEDULES=10000` runs as many.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::time::Duration;

use flaky::Place;

#[tokio::test(flavor = "multi_thread")]
async fn every_payment_is_charged_once_and_its_client_has_the_response() {
    let schedules = std::env::var("FLAKY_SCHEDULES").map_or(100, |text| text.parse().unwrap());
    let report = flaky::run(0, schedules, Duration::MAX).await;
    println!("{report}");
    assert!(report.wrong.is_empty(), "{:#?}", report.wrong);
    assert_eq!(report.schedules, schedules);
    assert_eq!(report.places.len(), Place::ALL.len());
    assert!(report.tries > 2 * schedules, "nothing went wrong: {report}");
}

/// What it tells readers to write is what the schedules above ran with.
#[test]
fn the_guide_shows_the_clients_of_these_tests() {
    let (guide, used) = (include_str!("../../../src/guide/client.md"), include_str!("../src/payer.rs"));
    let plain = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let blocks: Vec<_> = guide.split("```ignore\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let lines = plain(block);
        assert!(plain(used).contains(lines.trim_end()), "{block}");
    }
}
