//! Uploads hold no more than their budget.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{IdempotencyLayer, Scope};

use crate::counted;
use crate::support::bodies::{Part, TestBody, script};
use crate::support::lab::{reply, serve, spawn};

const MIB: usize = 1 << 20;
const BUDGET: usize = 32 * MIB;

/// A client that sends 2 MiB in pieces, and never the last byte of them; or one
/// that never begins.
fn slow(n: usize, begins: bool) -> Request<TestBody> {
    const PIECE: &[u8] = &[b'x'; 64 << 10];
    let pieces = (0..31).flat_map(|_| [Part::Data(Bytes::from_static(PIECE)), Part::Wait(Duration::from_millis(10))]);
    let stalled = || Some(Part::Stall).into_iter();
    let body = script(stalled().filter(|_| !begins).chain(pieces).chain(stalled()));
    Request::builder().method("POST").uri("/pay").header("idempotency-key", format!("k{n}")).body(body).unwrap()
}

/// How many of 400 uploads are refused, and the most bytes held meanwhile.
fn four_hundred(begin: bool) -> (usize, usize) {
    let (refused, info) = counted(async || {
        let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::shared()).max_running(4);
        let app = serve(&layer.upload_budget(BUDGET), |_| async { Ok(reply(200, "ran")) });
        let clients: Vec<_> = (0..400).map(|n| spawn(&app, slow(n, begin))).collect();
        // Paused time: everything there is to read is read by then.
        tokio::time::sleep(Duration::from_secs(20)).await;
        clients.iter().filter(|client| client.is_finished()).count()
    });
    (refused, info.bytes_max as usize)
}

#[test]
fn four_hundred_slow_uploads_of_2_mib_hold_no_more_than_the_budget() {
    // What the clients themselves take.
    let (none, clients) = four_hundred(false);
    let (refused, peak) = four_hundred(true);
    let held = peak - clients;
    println!("{refused} refused, {} KiB held of a budget of {} KiB", held >> 10, BUDGET >> 10);
    assert_eq!(none, 0, "refused without a byte");
    // Refusals and timers take a little, too.
    assert!(held <= BUDGET + MIB / 4, "{held} bytes held, of a budget of {BUDGET}");
    assert!((300..400).contains(&refused), "{refused} of 400 were refused");
}
