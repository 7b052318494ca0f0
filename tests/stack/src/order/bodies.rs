//! What changes a body, or bounds it: compression both ways, body limits.

use std::io::{Read, Write};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Request;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tower_http::compression::CompressionLayer;
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;

use crate::{Answer, Gateway, guard, pay_with, send};

fn gzip(text: &str, level: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// What a client reads that takes a body for what its head says.
fn read(answer: &Answer) -> String {
    let Some(coding) = answer.headers.get("content-encoding") else { return answer.text().to_owned() };
    assert_eq!(coding, "gzip");
    let mut text = String::new();
    GzDecoder::new(&answer.body[..]).read_to_string(&mut text).unwrap();
    text
}

fn is_coded(answer: &Answer) -> bool {
    answer.headers.contains_key("content-encoding")
}

/// A response that is worth compressing.
fn receipt() -> Router {
    use axum::routing::post;
    Router::new().route("/pay", post(|| async { "a receipt of more than thirty-two bytes ".repeat(20) }))
}

#[tokio::test]
async fn inside_of_the_layer_compression_is_for_the_first_client_only() {
    let taking = |coding| pay_with("k", "100", &[("accept-encoding", coding)]);
    let (_, layer) = guard();
    let wrong = receipt().layer(CompressionLayer::new()).layer(layer);
    let first = send(&wrong, taking("gzip")).await;
    assert!(is_coded(&first) && !first.is_replay());
    let lost = send(&wrong, taking("identity")).await;
    assert!(is_coded(&lost) && lost.is_replay(), "it can't be read by a client that takes no gzip");

    let (_, layer) = guard();
    let right = receipt().layer(layer).layer(CompressionLayer::new());
    let first = send(&right, taking("gzip")).await;
    let held = send(&right, taking("identity")).await;
    let again = send(&right, taking("gzip")).await;
    assert_eq!([&first, &held, &again].map(is_coded), [true, false, true]);
    assert_eq!([&first, &held, &again].map(Answer::is_replay), [false, true, true]);
    assert_eq!([&held, &again].map(read), [read(&first), read(&first)]);
}

/// The same text, as clients send it that compress anew for each try.
fn three_forms(text: &'static str) -> [Request<Body>; 3] {
    let coded = |level| pay_with("k", gzip(text, level), &[("content-encoding", "gzip")]);
    [coded(Compression::fast()), coded(Compression::none()), pay_with("k", text, &[])]
}

#[tokio::test]
async fn inside_of_the_layer_decompression_makes_another_request_of_one_that_is_compressed_anew() {
    let text = "a body that says the same thing, the same thing, the same thing";
    let (_, layer) = guard();
    let wrong = Gateway::open().routes().layer(RequestDecompressionLayer::new()).layer(layer);
    let [first, anew, plain] = three_forms(text);
    send(&wrong, first).await.assert_first(201, "charge 1 of 63");
    send(&wrong, anew).await.assert_problem("key-reused");
    send(&wrong, plain).await.assert_problem("key-reused");

    let (_, layer) = guard();
    let right = Gateway::open().routes().layer(layer).layer(RequestDecompressionLayer::new());
    let [first, anew, plain] = three_forms(text);
    send(&right, first).await.assert_first(201, "charge 1 of 63");
    send(&right, anew).await.assert_replay(201, "charge 1 of 63");
    send(&right, plain).await.assert_replay(201, "charge 1 of 63");
}

/// The layer's own limit counts what it reads: behind it, a small body may grow.
#[tokio::test]
async fn inside_of_the_layer_decompression_is_bounded_by_nothing_of_the_layers() {
    let bomb = || pay_with("k", gzip(&"0".repeat(100_000), Compression::best()), &[("content-encoding", "gzip")]);
    let (_, layer) = guard();
    let wrong = Gateway::open().routes().layer(RequestDecompressionLayer::new()).layer(layer.request_limit(10_000));
    send(&wrong, bomb()).await.assert_first(201, "charge 1 of 100000");

    let (store, layer) = guard();
    let right = Gateway::open().routes().layer(layer.request_limit(10_000)).layer(RequestDecompressionLayer::new());
    send(&right, bomb()).await.assert_problem("body-too-large");
    assert_eq!(store.len(), 0);
}

#[tokio::test]
async fn inside_of_the_layer_a_body_limit_spends_the_key_on_what_it_refuses() {
    let limit = || RequestBodyLimitLayer::new(10);
    let too_large = || pay_with("k", "a body that is over the limit", &[("content-length", "29")]);
    let (store, layer) = guard();
    let wrong = Gateway::open().routes().layer(limit()).layer(layer);
    assert_eq!(send(&wrong, too_large()).await.status, 413);
    assert_eq!(store.len(), 1);
    send(&wrong, pay_with("k", "100", &[])).await.assert_problem("key-reused");

    let (store, layer) = guard();
    let right = Gateway::open().routes().layer(layer).layer(limit());
    assert_eq!(send(&right, too_large()).await.status, 413);
    // Without a length it breaks off where it is over the limit.
    let chunks = Body::from_stream(Chunks(30));
    send(&right, pay_with("k", chunks, &[])).await.assert_problem("body-incomplete");
    assert_eq!(store.len(), 0);
    send(&right, pay_with("k", "100", &[])).await.assert_first(201, "charge 1 of 3");
}

/// So many bytes, one by one.
struct Chunks(usize);

impl futures_core::Stream for Chunks {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let left = self.0;
        self.0 = left.saturating_sub(1);
        std::task::Poll::Ready((left > 0).then(|| Ok(Bytes::from_static(b"0"))))
    }
}
