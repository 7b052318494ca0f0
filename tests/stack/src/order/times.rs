//! What ends before the handler does: time-outs.

use std::time::Duration;

use axum::http::StatusCode;
use tower_http::timeout::TimeoutLayer;

use crate::{Gateway, guard, pay, send, settle, start};

fn timeout() -> TimeoutLayer {
    TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_secs(10))
}

#[tokio::test(start_paused = true)]
async fn inside_of_the_layer_a_time_out_drops_the_handler_and_is_its_answer() {
    let (_, layer) = guard();
    let gateway = Gateway::shut();
    let wrong = gateway.routes().layer(timeout()).layer(layer);
    send(&wrong, pay("k")).await.assert_first(504, "");
    // Whatever the gateway did, the handler is gone that would have heard of it.
    gateway.gate.add_permits(10);
    settle().await;
    send(&wrong, pay("k")).await.assert_replay(504, "");
    assert_eq!((gateway.started(), gateway.charged()), (1, 0));

    let (_, layer) = guard();
    let gateway = Gateway::shut();
    let right = gateway.routes().layer(layer).layer(timeout());
    send(&right, pay("k")).await.assert_first(504, "");
    gateway.gate.add_permits(10);
    settle().await;
    send(&right, pay("k")).await.assert_replay(201, "charge 1 of 3");
    assert_eq!((gateway.started(), gateway.charged()), (1, 1));
}

/// A client that is cut off while the handler runs comes back to it.
#[tokio::test(start_paused = true)]
async fn outside_of_the_layer_a_time_out_leaves_what_runs_alone() {
    let (_, layer) = guard();
    let gateway = Gateway::shut();
    let right = gateway.routes().layer(layer.wait(Duration::from_secs(5))).layer(timeout());
    send(&right, pay("k")).await.assert_first(504, "");
    let waiting = start(&right, pay("k")).await;
    assert!(!waiting.is_finished());
    gateway.gate.add_permits(1);
    waiting.await.unwrap().assert_replay(201, "charge 1 of 3");
    assert_eq!(gateway.started(), 1);
}
