//! What a form of very many parts takes while its fingerprint is made.

use allocation_counter::measure;
use bytes::Bytes;
use http::Request;
use tower_idempotency::FingerprintRules;

#[test]
fn parts_take_a_few_words_each_and_no_allocation_of_their_own() {
    let body = "--b\r\n\r\n".repeat(100_000) + "--b--";
    let length = body.len() as u64;
    let request = Request::post("/pay").header("content-type", "multipart/form-data; boundary=b");
    let request = request.body(Bytes::from(body)).unwrap();
    let taken = measure(|| assert!(FingerprintRules::new().same(&request, &request)));
    assert!(taken.count_total < 200, "{taken:?}");
    assert!(taken.bytes_max < 8 * length, "{taken:?}");
}
