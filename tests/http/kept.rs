//! What is kept of a body is a copy, not a slice of the buffer that it was read
//! into, which would stay in memory as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::lab::{Lab, post_body, reply, send, serve, stored_key};
use bytes::Bytes;
use http::{Method, StatusCode};
use tower_idempotency::core::{StoredRequest, StoredResponse};

/// A connection's buffer, which knows how many of its kind there are.
struct Buffer(Arc<AtomicUsize>, Vec<u8>);

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.1
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A body of so many bytes in the middle of a buffer that is read into.
fn read_into(buffers: &Arc<AtomicUsize>, bytes: usize) -> Bytes {
    buffers.fetch_add(1, Ordering::SeqCst);
    Bytes::from_owner(Buffer(Arc::clone(buffers), vec![b'x'; 400 << 10])).slice(100..100 + bytes)
}

#[test]
fn a_stored_message_holds_no_buffer_that_its_body_was_read_into() {
    let buffers = Arc::new(AtomicUsize::new(0));
    for bytes in [1, 200, 16 << 10] {
        let (uri, headers) = ("/pay".parse().unwrap(), http::HeaderMap::new());
        let request = StoredRequest::capture(&Method::POST, &uri, &headers, read_into(&buffers, bytes));
        let response = StoredResponse::capture(StatusCode::OK, &headers, Some(read_into(&buffers, bytes)));
        assert_eq!((request.body().len(), response.body().map(Bytes::len)), (bytes, Some(bytes)));
        assert_eq!(buffers.load(Ordering::SeqCst), 0, "buffers are held for bodies of {bytes} bytes");
    }
}

#[tokio::test]
async fn a_record_holds_no_buffer_that_a_body_was_read_into() {
    let (buffers, lab) = (Arc::new(AtomicUsize::new(0)), Lab::new());
    let answers = Arc::clone(&buffers);
    let app = serve(&lab.layer().resumable(), move |request| {
        let status = if request.uri().path() == "/pay" { 503 } else { 201 };
        let body = read_into(&answers, 200);
        async move { Ok(reply(status, body)) }
    });
    // Its request stays, for whoever goes on with it; and then an answer does.
    assert_eq!(send(&app, post_body("unfinished", read_into(&buffers, 200))).await.status, 503);
    let mut complete = post_body("complete", read_into(&buffers, 200));
    *complete.uri_mut() = "/orders".parse().unwrap();
    assert_eq!(send(&app, complete).await.status, 201);
    let kept = lab.store.peek(&stored_key("unfinished")).await.unwrap();
    assert_eq!(kept.request().unwrap().body().len(), 200);
    let kept = lab.store.peek(&stored_key("complete")).await.unwrap();
    assert_eq!(kept.response().unwrap().body().unwrap().len(), 200);
    assert_eq!(buffers.load(Ordering::SeqCst), 0, "buffers are held by what is kept");
}
