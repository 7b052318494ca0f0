//! Schedules, one after the other and some at a time.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use killbox::World;
use tokio::task::JoinSet;
use tower_idempotency::Backoff;
use tower_idempotency::client::{RetryLayer, Server};
use tower_idempotency::core::IdempotencyKey;

use crate::fault::{Fault, Place};
use crate::payer::Stack;
use crate::proxy::Proxy;

/// How many payments are under way at once.
const AT_ONCE: u64 = 16;

/// When a client gives up a try.
const TRY: Duration = Duration::from_millis(250);

/// How the schedules went.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many there were.
    pub schedules: u64,
    /// How many tries all of them took.
    pub tries: u64,
    /// What went wrong, with the number of the schedule.
    pub wrong: Vec<String>,
    /// Where faults were.
    pub places: BTreeSet<Place>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schedules, tries, wrong, .. } = self;
        write!(f, "{schedules} schedules, {tries} tries, {} went wrong", wrong.len())
    }
}

/// Runs the schedules `first` to `last`, until the time is over.
pub async fn run(first: u64, last: u64, time: Duration) -> Report {
    let world = World::new(&["--store", "memory:", "--lease", "5"]);
    let server = world.start();
    let (start, address) = (Instant::now(), server.address());
    let (mut report, mut under_way) = (Report::default(), JoinSet::new());
    let mut numbers = (first..last).take_while(|_| start.elapsed() < time);
    for number in numbers.by_ref().take(AT_ONCE as usize) {
        under_way.spawn(schedule(number, address));
    }
    while let Some(ended) = under_way.join_next().await {
        let (places, tried) = ended.expect("no panic");
        report.schedules += 1;
        report.places.extend(places);
        match tried {
            Ok(tries) => report.tries += u64::from(tries),
            Err(why) => report.wrong.push(why),
        }
        if let Some(number) = numbers.next() {
            under_way.spawn(schedule(number, address));
        }
    }
    let charges = world.charges();
    let twice = charges
        .iter()
        .filter(|(_, count)| **count != 1)
        .map(|(order, count)| format!("{order}: charged {count} times"));
    report.wrong.extend(twice);
    if charges.len() as u64 != report.schedules {
        report.wrong.push(format!("{} orders were charged, of {}", charges.len(), report.schedules));
    }
    report
}

/// One payment, and how many tries it took.
async fn schedule(number: u64, server: SocketAddr) -> (Vec<Place>, Result<u32, String>) {
    let mut random = fastrand::Rng::with_seed(number);
    let faults: Vec<_> = (0..random.usize(1..5)).map(|_| Fault::any(&mut random)).collect();
    let proxy = Proxy::in_front_of(server, faults.clone()).await;
    let stack = if random.bool() { Stack::Hyper } else { Stack::Reqwest };
    let origin = format!("http://{}", proxy.address());
    let layer = RetryLayer::new(Server::honours_keys(&origin).expect("an origin"))
        .max_tries(40)
        .try_timeout(TRY)
        .deadline(Duration::from_secs(20))
        .retry_after_limit(Duration::from_millis(20))
        .backoff(Backoff::new(Duration::from_millis(2), Duration::from_millis(20)));
    let order = format!("order-{number}");
    let mut request = Request::post(format!("{origin}/payments")).header("content-type", "application/json");
    if random.u8(..8) == 0 {
        // Longer than a try: the next ones find it in progress.
        request = request.header("x-demo", "slow=400");
    }
    if random.bool() {
        request = request.extension(IdempotencyKey::derived("pay", &order));
    }
    let body = format!(r#"{{"order":"{order}","amount":1999,"currency":"EUR"}}"#);
    let request = request.body(Bytes::from(body)).expect("a request");
    let places = faults.iter().map(|fault| fault.place).collect();
    let told = |what: String| format!("schedule {number} ({stack:?}, {faults:?}): {what}");
    let tried = match stack.pay(&layer, request).await {
        Err(error) => Err(told(error.to_string())),
        Ok(paid) if paid.status == 201 && is_of(&paid.body, &order) => Ok(paid.tries),
        Ok(paid) => Err(told(format!("{} {}", paid.status, String::from_utf8_lossy(&paid.body)))),
    };
    (places, tried)
}

fn is_of(body: &[u8], order: &str) -> bool {
    serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|payment| payment["order"] == order)
}
