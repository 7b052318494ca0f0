//! Every field of a record comes back as it was written.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::basics::minute;
use super::sample::{bare_claim, begin, claim, complete, headers, key, noise, request, response, save};
use super::{Harness, Holder};
use crate::core::{
    Change, Claim, Fingerprint, Hold, Labels, Mode, NotRetained, Reached, Resolution, Status, StoredResponse,
};

async fn held(harness: &dyn Harness, n: u32) -> Holder {
    let mut holder = Holder::new(harness.store(), key(n));
    holder.claim(claim(minute(harness))).await;
    holder
}

/// Held, free, parked and cleared come back as such.
pub async fn holds_round_trip(harness: &dyn Harness) {
    let mut holder = held(harness, 1).await;
    holder.check().await;
    holder.change([Change::Release]).await;
    holder.check().await;
    holder.resolve(Resolution::RunAgain).await;
    assert_eq!(holder.record().hold(), &Hold::Runnable);
    holder.check().await;
    holder.claim(claim(minute(harness))).await;
    holder.change([Change::Park { why: "odd: \"\\ \n\u{0} \u{1f9fe} '); DROP TABLE".into() }]).await;
    holder.check().await;
}

/// Pending, paid and complete come back as such.
pub async fn progress_round_trips(harness: &dyn Harness) {
    let mut holder = held(harness, 1).await;
    for (change, status) in [
        (begin("charge"), Status::Pending),
        (save("charge", b"ch_1"), Status::Paid),
        (complete(b"{}", minute(harness)), Status::Complete),
    ] {
        holder.change([change]).await;
        assert_eq!(holder.record().status(), status);
        holder.check().await;
    }
}

/// Mode, fingerprint, attempts and lease come back, whatever they are.
pub async fn claims_round_trip(harness: &dyn Harness) {
    let modes = [Mode::AtMostOnce, Mode::Resumable];
    let [zero, ones] = [[0; 32], [0xff; 32]].map(Fingerprint::from_bytes);
    let second = (zero.scheme_2(None, []), ones.scheme_2(Some(b"a.example"), [b"gzip".as_slice()]));
    let trailing = second.1.clone().with_trailers([(b"x-sum".as_slice(), b"1".as_slice())]);
    let fingerprints = [second.0, second.1, Fingerprint::of([]), trailing];
    let minute = Duration::from_secs(60);
    let leases = [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(1 << 40), minute];
    let mut n = 0;
    for (mode, (fingerprint, lease)) in
        modes.into_iter().flat_map(|mode| fingerprints.iter().zip(leases).map(move |pair| (mode, pair)))
    {
        n += 1;
        let mut holder = Holder::new(harness.store(), key(n));
        holder
            .claim(Claim { fingerprint: fingerprint.clone(), mode, lease, request: None, labels: Labels::new() })
            .await;
        holder.check().await;
    }
}

/// The number of attempts comes back, and with it the steps, the request, and why each attempt
/// ended.
pub async fn attempts_round_trip(harness: &dyn Harness) {
    let mut holder = held(harness, 1).await;
    for attempt in 1..=5_u8 {
        let why = format!("status 50{attempt}").into();
        holder.change([save(&format!("step {attempt}"), &[attempt]), Change::Reason { why }, Change::Release]).await;
        holder.check().await;
        holder.claim(claim(minute(harness))).await;
        assert_eq!(holder.record().attempts(), u32::from(attempt) + 1);
        holder.check().await;
    }
}

/// Request bodies come back: none, one of all bytes, one of a mebibyte.
pub async fn requests_round_trip(harness: &dyn Harness) {
    let all: Vec<u8> = (0..=255).collect();
    for (n, body) in (1..).zip([Vec::new(), all, noise(1 << 20), b"\n\n\r\n\0".to_vec()]) {
        let mut holder = Holder::new(harness.store(), key(n));
        holder.claim(Claim { request: Some(request(&body)), ..claim(minute(harness)) }).await;
        holder.check().await;
        holder.change([Change::Renew]).await;
        holder.check().await;
    }
    let mut holder = Holder::new(harness.store(), key(99));
    holder.claim(bare_claim(minute(harness))).await;
    holder.check().await;
}

/// Responses come back: status, header bytes, bodies; and whether the body was
/// retained at all.
pub async fn responses_round_trip(harness: &dyn Harness) {
    let all: Vec<u8> = (0..=255).collect();
    let large = noise(1 << 20);
    let bodies = [Some(&[][..]), None, Some(all.as_slice()), Some(large.as_slice()), Some(b"\n{}\n")];
    for (n, (status, body)) in (1..).zip([100, 200, 204, 500, 599].into_iter().zip(bodies)) {
        let mut holder = held(harness, n).await;
        holder
            .change([Change::Complete {
                response: response(status, body),
                retention: minute(harness),
                reached: Reached::All,
            }])
            .await;
        holder.check().await;
    }
    trailers_and_reasons_round_trip(harness).await;
}

/// Trailers come back, and so does why a response was not retained.
async fn trailers_and_reasons_round_trip(harness: &dyn Harness) {
    let ok = http::StatusCode::OK;
    let lost = |why| StoredResponse::capture_head(ok, &headers(), why);
    let whole = StoredResponse::capture_with_trailers(ok, &headers(), Bytes::from_static(b"body"), &headers());
    let answers = [whole, lost(NotRetained::TooLarge), lost(NotRetained::Streamed), lost(NotRetained::Incomplete)];
    for (n, response) in (50..).zip(answers) {
        let mut holder = held(harness, n).await;
        holder
            .change([Change::Complete {
                response: Arc::new(response),
                retention: minute(harness),
                reached: Reached::All,
            }])
            .await;
        holder.check().await;
    }
}

/// Header lines keep their order, their duplicates and their bytes.
pub async fn header_lines_round_trip(harness: &dyn Harness) {
    let mut holder = held(harness, 1).await;
    let found = holder.load().await.record.expect("a record");
    let lines = |name: &str| -> Vec<Vec<u8>> {
        let request = found.request().expect("a request");
        let lines = request.headers().iter().filter(|(found, _)| found.as_str() == name);
        lines.map(|(_, value)| value.as_bytes().to_vec()).collect()
    };
    assert_eq!(lines("link"), [&b"<b>; rel=next"[..], b"<a>; rel=prev", b"<b>; rel=next"]);
    assert_eq!(lines("x-latin-1"), [b"caf\xe9 \xff\x80"]);
    assert_eq!(lines("x-empty"), [b""]);
    assert_eq!(lines("x-\"quoted\""), [b"1"]);
    holder.change([complete(b"", minute(harness))]).await;
    let found = holder.load().await.record.expect("a record");
    let answer = found.response().expect("a response");
    assert_eq!(answer.headers(), response(201, None).headers());
}

/// Retentions come back: none, and ages.
pub async fn retentions_round_trip(harness: &dyn Harness) {
    for (n, retention) in (1..).zip([minute(harness), Duration::from_millis(1 << 40)]) {
        let mut holder = held(harness, n).await;
        holder.change([complete(b"answer", retention)]).await;
        holder.check().await;
    }
}

/// Step names may be any text, and are not mistaken for one another.
pub async fn step_names_round_trip(harness: &dyn Harness) {
    let long = "x".repeat(4096);
    let names = [
        "",
        " ",
        "a",
        "A",
        "a ",
        "a/b",
        "a\nb",
        "a\0b",
        "\0",
        "\"",
        "\\",
        "'; --",
        "%s",
        "\u{e9}",
        "e\u{301}",
        "\u{1f9fe}",
        "\u{feff}",
        "..",
        "request",
        "response",
        "0",
        "step",
        &long,
    ];
    let mut holder = held(harness, 1).await;
    for name in names {
        holder.change([save(name, name.as_bytes())]).await;
    }
    assert_eq!(holder.record().steps().len(), names.len());
    holder.check().await;
}

/// Step values may be any bytes: false, null, nothing, a mebibyte.
pub async fn step_values_round_trip(harness: &dyn Harness) {
    let all: Vec<u8> = (0..=255).collect();
    let large = noise(1 << 20);
    let values: [&[u8]; 9] = [b"", b"false", b"null", b"0", b"\"\"", b"\n", b"\0", &all, &large];
    let mut holder = held(harness, 1).await;
    for (n, value) in values.into_iter().enumerate() {
        holder.change([save(&n.to_string(), value)]).await;
    }
    holder.check().await;
}

/// Begun, saved and failed steps come back as such, and a begun one changes.
pub async fn step_points_round_trip(harness: &dyn Harness) {
    let fail = |step: &str| Change::Fail { step: step.into(), error: Bytes::from_static(b"declined") };
    let mut holder = held(harness, 1).await;
    holder.change([begin("a"), begin("b"), begin("c"), save("d", b""), fail("e")]).await;
    holder.check().await;
    holder.change([save("b", b"done")]).await;
    holder.check().await;
    holder.change([fail("a")]).await;
    holder.check().await;
}

/// A response that an operator gave is a response.
pub async fn resolved_responses_round_trip(harness: &dyn Harness) {
    let mut holder = held(harness, 1).await;
    holder.change([begin("charge"), Change::Park { why: Arc::from("who knows") }]).await;
    holder.resolve(Resolution::StepDone { step: "charge".into(), value: Bytes::from_static(b"ch_1") }).await;
    assert_eq!(holder.record().status(), Status::Paid);
    holder.check().await;
    holder.resolve(Resolution::Respond { response: response(200, Some(b"ok")), retention: minute(harness) }).await;
    holder.check().await;
}
