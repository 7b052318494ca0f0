//! What a sweeper removes.

use tower_idempotency::Sweeper;
use tower_idempotency::clock::ManualClock;
use tower_idempotency::core::Mode;
use tower_idempotency::store::Store;

use super::{app, crashed};
use crate::support::lab::{Lab, post, reply, secs, send, stored_key};
use crate::support::store::Faulty;

#[tokio::test(start_paused = true)]
async fn the_sweeper_removes_what_has_expired_and_nothing_else() {
    let clock = ManualClock::new();
    let store = Faulty::on(&clock);
    let lab = Lab::over(store.clone());
    let short = app(&lab.layer_with(|engine| engine.retention(secs(1))), |_, _| async { reply(200, "done") });
    let long = app(&lab.layer_with(|engine| engine.retention(secs(1000))), |_, _| async { reply(200, "done") });
    for n in 0..200 {
        send(&short, post(&format!("short {n}").replace(' ', "-"))).await;
    }
    send(&long, post("long")).await;
    crashed(&lab, "unfinished", Mode::Resumable, b"{}").await;
    let sweeper = Sweeper::new(store.clone());
    assert_eq!(sweeper.run_once().await.unwrap().removed, 0);
    clock.advance(secs(999));
    assert_eq!((sweeper.run_once().await.unwrap().removed, store.len()), (200, 2));
    clock.advance(secs(365 * 24 * 3600));
    assert_eq!((sweeper.run_once().await.unwrap().removed, store.len()), (1, 1), "unfinished ones stay");
    assert_eq!(store.load(&stored_key("unfinished")).await.unwrap().record.unwrap().attempts(), 1);
}
