//! Arbitrary commands, and what they make of a record.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use proptest::collection::vec;
use proptest::prelude::*;
use tower_idempotency::core::{
    Change, Claim, Claimed, Command, Fence, Fenced, Fingerprint, Labels, Mode, Next, NotRetained, Reached, Record,
    Resolution, Resolve, Stamp, StoredRequest, StoredResponse, Timestamp, Version,
};
use tower_idempotency::store::KeptRecord;

/// Any command; a fence is that of the n-th version that was ever written.
#[derive(Clone, Debug)]
pub(crate) enum AnyCommand {
    Claim(Claim),
    Fenced(usize, Vec<Change>),
    Resolve(Resolve),
}

/// A command, and how much later than the one before.
pub(crate) type Move = (AnyCommand, Duration);

/// Another state of the record, and the one before it.
#[derive(Clone, Debug)]
pub(crate) struct Transition {
    pub(crate) command: AnyCommand,
    pub(crate) before: Option<Record>,
    pub(crate) after: Option<Record>,
    pub(crate) now: Timestamp,
    pub(crate) claimed: Option<Claimed>,
}

/// Runs these commands against a store of one record.
pub(crate) fn run(moves: &[Move]) -> Vec<Transition> {
    let (mut current, mut fences, mut now) = (None, Vec::new(), Timestamp::from_millis(1_000));
    let mut transitions = Vec::new();
    for (nonce, (command, later)) in (1..).zip(moves) {
        now = now.after(*later);
        let live = current.as_ref().filter(|record: &&Record| !record.is_expired(now)).cloned();
        let stamp = Stamp::new(now, Version::new(nonce));
        let (next, claimed) = apply(command, live.as_ref(), stamp, &fences);
        let after = match next {
            Next::Keep => live.clone(),
            Next::Put(next) => {
                let created = live.as_ref().and_then(Record::created_at);
                Some(next.stamped_over(created, now))
            }
            Next::Remove => None,
        };
        if let Some(Claimed::Granted(fence)) = &claimed {
            fences.push(*fence);
        }
        current.clone_from(&after);
        transitions.push(Transition { command: command.clone(), before: live, after, now, claimed });
    }
    transitions
}

fn apply(command: &AnyCommand, live: Option<&Record>, stamp: Stamp<'_>, fences: &[Fence]) -> (Next, Option<Claimed>) {
    match command {
        AnyCommand::Claim(claim) => {
            let decision = claim.apply(live, stamp);
            (decision.next, Some(decision.output))
        }
        AnyCommand::Fenced(nth, changes) => {
            let nth = nth.checked_rem(fences.len()).map(|nth| fences[nth]);
            let fence = nth.unwrap_or_else(|| Fence::of(Version::new(u64::MAX)));
            (Fenced { fence, changes: changes.clone() }.apply(live, stamp).next, None)
        }
        AnyCommand::Resolve(resolve) => (resolve.apply(live, stamp).next, None),
    }
}

pub(crate) fn moves() -> impl Strategy<Value = Vec<Move>> {
    let later = prop_oneof![4 => 0_u64..3, 1 => 0_u64..30].prop_map(Duration::from_millis);
    let first = claim().prop_map(|claim| (AnyCommand::Claim(claim), Duration::ZERO));
    (first, vec((command(), later), 0..30)).prop_map(|(first, mut rest)| {
        rest.insert(0, first);
        rest
    })
}

fn command() -> impl Strategy<Value = AnyCommand> {
    // The last fence is the likeliest to hold.
    let nth = prop_oneof![3 => Just(usize::MAX), 1 => any::<usize>()];
    prop_oneof![
        2 => claim().prop_map(AnyCommand::Claim),
        6 => (nth, vec(change(), 0..4)).prop_map(|(nth, changes)| AnyCommand::Fenced(nth, changes)),
        1 => resolution().prop_map(|resolution| AnyCommand::Resolve(Resolve { resolution, seen: None, why: None })),
    ]
}

fn claim() -> impl Strategy<Value = Claim> {
    let fingerprint = prop_oneof![5 => fingerprint(0), 1 => fingerprint(1)];
    let mode = prop_oneof![1 => Just(Mode::AtMostOnce), 3 => Just(Mode::Resumable)];
    (fingerprint, mode, 0_u64..10, proptest::option::of(request())).prop_map(|(fingerprint, mode, lease, request)| {
        let lease = Duration::from_millis(lease);
        Claim { fingerprint, mode, lease, request: request.map(Arc::new), labels: Labels::new() }
    })
}

/// Of this request, by one of the schemes.
fn fingerprint(request: u8) -> impl Strategy<Value = Fingerprint> {
    let first = move || Fingerprint::of([[request].as_slice()]);
    let authority = prop_oneof![3 => Just(Some(b"a")), 1 => Just(Some(b"b")), 1 => Just(None)];
    let content = prop_oneof![3 => Just(None), 1 => Just(Some(b"gzip".as_slice()))];
    let second = (authority, content).prop_map(move |(authority, content)| {
        let authority = authority.map(|authority| authority.as_slice());
        first().scheme_2(authority, content)
    });
    let trailers = prop_oneof![3 => Just(None), 1 => Just(Some((b"a".as_slice(), b"1".as_slice())))];
    let second = (second, trailers).prop_map(|(second, trailers)| second.with_trailers(trailers));
    prop_oneof![1 => Just(first()), 3 => second]
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..12).prop_map(Bytes::from)
}

fn name() -> impl Strategy<Value = Box<str>> {
    prop_oneof![4 => "[a-d]", 1 => ".{0,6}"].prop_map(Into::into)
}

fn headers() -> impl Strategy<Value = HeaderMap> {
    let value = vec(prop_oneof![0x20_u8..0x7f, 0x80_u8..=0xff], 0..8);
    vec(("x-[a-c]", value), 0..5).prop_map(|lines| {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.append(name, HeaderValue::from_bytes(&value).expect("a value"));
        }
        headers
    })
}

fn request() -> impl Strategy<Value = StoredRequest> {
    let uri = "/[a-z0-9/]{0,8}([?][a-z0-9=&%]{0,8})?".prop_map(|uri| uri.parse::<Uri>().expect("a URI"));
    ("[A-Z]{1,7}", uri, headers(), bytes(), headers()).prop_map(|(method, uri, headers, body, trailers)| {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        StoredRequest::capture_with_trailers(&method, &uri, &headers, body, &trailers)
    })
}

fn response() -> impl Strategy<Value = Arc<StoredResponse>> {
    let why = prop_oneof![Just(NotRetained::TooLarge), Just(NotRetained::Streamed), Just(NotRetained::Incomplete)];
    let content = proptest::result::maybe_ok((bytes(), headers()), why);
    (100_u16..1000, headers(), content).prop_map(|(status, headers, content)| {
        let status = StatusCode::from_u16(status).expect("a status");
        Arc::new(match content {
            Ok((body, trailers)) => StoredResponse::capture_with_trailers(status, &headers, body, &trailers),
            Err(why) => StoredResponse::capture_head(status, &headers, why),
        })
    })
}

fn retention() -> impl Strategy<Value = Duration> {
    (0_u64..20).prop_map(Duration::from_millis)
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => name().prop_map(|step| Change::Begin { step }),
        6 => (name(), bytes()).prop_map(|(step, value)| Change::Save { step, value }),
        1 => (name(), bytes()).prop_map(|(step, error)| Change::Fail { step, error }),
        2 => name().prop_map(|step| Change::Clear { step }),
        1 => (vec(name(), 0..3), response()).prop_map(|(steps, response)| Change::Undo { steps: steps.into(), response }),
        2 => name().prop_map(|step| Change::Undone { step }),
        1 => Just(Change::Renew),
        1 => retention().prop_map(|retry_in| Change::Postpone { retry_in }),
        1 => ".{0,20}".prop_map(|why: String| Change::Reason { why: why.into() }),
        1 => Just(Change::Release),
        1 => Just(Change::Withdraw),
        1 => ".{0,10}".prop_map(|why: String| Change::Park { why: why.into() }),
        1 => (response(), retention()).prop_map(|(response, retention)| Change::Complete { response, retention, reached: Reached::All }),
    ]
}

fn resolution() -> impl Strategy<Value = Resolution> {
    prop_oneof![
        (response(), retention()).prop_map(|(response, retention)| Resolution::Respond { response, retention }),
        (name(), bytes()).prop_map(|(step, value)| Resolution::StepDone { step, value }),
        name().prop_map(|step| Resolution::DidNotHappen { step }),
        name().prop_map(|step| Resolution::Undone { step }),
        Just(Resolution::RunAgain),
        ".{0,10}".prop_map(|why: String| Resolution::Park { why: why.into() }),
    ]
}
