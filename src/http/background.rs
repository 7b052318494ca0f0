//! Which requests get a 202 and run later, and how.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use percent_encoding::utf8_percent_encode;

use crate::core::IdempotencyKey;
use crate::http::prefer;
use crate::http::queue::Queue;
use crate::http::route::{ESCAPED, Route};

/// Requests that get a 202 at once, and that a [`Completer`](crate::Completer) runs, of
/// this process or another one.
///
/// A client asks for it with `Prefer: respond-async` (RFC 7240). It gets a 202
/// once its request is stored, with `Location`, where a
/// [`StatusService`](crate::StatusService) tells how far the operation is, `Retry-After`
/// and `Preference-Applied: respond-async`. Duplicates that ask for it get the
/// same 202 while the operation is unfinished, and then the stored response.
///
/// ```
/// use std::time::Duration;
/// use tower_idempotency::{Background, IdempotencyLayer, Scope, store::MemoryStore};
///
/// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::shared())
///     .resumable()
///     .background(Background::at("/operations").retry_after(Duration::from_secs(2)).deadline(Duration::from_secs(60)));
/// ```
///
/// # Caveats
///
/// - Without a running completer, accepted requests do not run.
/// - The layer ignores the `wait` preference, which RFC 7240 allows.
/// - A duplicate without the preference is served as in the foreground: it
///   runs the operation itself if no attempt does, gets 409 while one does, and
///   the stored response in the end.
/// - The process that first claims an at-most-once operation starts it. If that process
///   dies or cuts the attempt off, no process runs it again: its outcome is unknown, and the
///   completer asks its [reconciler](crate::Completer::reconcile).
/// - After a 503 because the store did not reply, the request may be on record
///   all the same, and then it runs. A retry with the same key finds out.
/// - gRPC calls always run in the foreground.
/// - Credentials are not stored; see [`Completer`](crate::Completer).
#[derive(Clone, Debug)]
#[must_use]
pub struct Background {
    prefix: String,
    always: bool,
    retry_after: Duration,
    deadline: Option<Duration>,
    max_tries: Option<u32>,
    pub(crate) queue: Queue,
}

impl Background {
    /// For clients that prefer it, with `Location: prefix/KEY`. The layer percent-encodes the
    /// key; it takes the prefix as it is, but only its visible ASCII characters. Where keys
    /// count [per route](crate::Scope::per_route), a query names the route.
    pub fn at(prefix: &str) -> Self {
        let fit = |c: &char| c.is_ascii_graphic() && !['"', '\\', '<', '>'].contains(c);
        Self {
            prefix: prefix.trim_end_matches('/').chars().filter(fit).collect(),
            always: false,
            retry_after: Duration::from_secs(1),
            deadline: None,
            max_tries: None,
            queue: Queue::new(10_000),
        }
    }

    /// For every request with a key, whatever its client prefers.
    pub const fn always(mut self) -> Self {
        self.always = true;
        self
    }

    /// When a client should ask again: after one second by default. Rounded
    /// down to seconds, at least one.
    pub const fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = pause;
        self
    }

    /// How many operations may wait to run: 10,000 by default, at least one. One scope takes
    /// [at most three quarters](crate::guide::background#accepted) of that.
    /// Above that the layer refuses new ones with 503 and `Retry-After`, but not duplicates
    /// of accepted requests.
    ///
    /// # Caveats
    ///
    /// Each process counts for itself. When its count is full, it asks the store, at most
    /// twice a second, how many operations are really due. So each of several processes that
    /// share a store may accept that many before it asks. It remembers the key and the scope of
    /// each that it accepted (some 80 bytes), unless the scope is
    /// [shared](crate::Scope::shared).
    pub fn queue(mut self, operations: usize) -> Self {
        self.queue = Queue::new(operations.max(1));
        self
    }

    /// How long one attempt of this route may take when a completer runs it;
    /// as long as the [completer's](crate::Completer::deadline) by default, and
    /// never longer. After that the completer cuts the attempt off. This counts as a try, and
    /// [`EventKind::CutOff`](crate::EventKind::CutOff) names the steps in which it hung.
    pub const fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = Some(limit);
        self
    }

    /// After how many attempts the completer parks an operation of this route; as many as
    /// the [completer](crate::Completer::max_tries) allows by default, and
    /// never more. At least one.
    pub fn max_tries(mut self, tries: u32) -> Self {
        self.max_tries = Some(tries.max(1));
        self
    }

    /// Deadline and tries of one route.
    pub(crate) const fn limits(&self) -> (Option<Duration>, Option<u32>) {
        (self.deadline, self.max_tries)
    }

    pub(crate) const fn retry_in(&self) -> Duration {
        self.retry_after
    }

    /// Where to ask for the response, if this request runs later.
    pub(crate) fn place_for(
        &self,
        headers: &HeaderMap,
        key: &IdempotencyKey,
        route: Option<&Route>,
    ) -> Option<HeaderValue> {
        if !self.always && !prefer::is_async(headers) {
            return None;
        }
        let query = route.map(|route| format!("?{}", route.query())).unwrap_or_default();
        HeaderValue::try_from(format!("{}/{}{query}", self.prefix, segment(key.as_str()))).ok()
    }
}

/// A key as a segment of a path. One of dots alone has parentheses around it:
/// clients resolve `.` and `..` away, and browsers `%2E` and `%2E%2E` too.
fn segment(key: &str) -> String {
    match key {
        "." | ".." => format!("({key})"),
        key => utf8_percent_encode(key, ESCAPED).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_segment_of_the_path() {
        let place = |key: &[u8]| {
            let key = IdempotencyKey::parse(key).unwrap();
            Background::at("/operations/").always().place_for(&HeaderMap::new(), &key, None).unwrap()
        };
        assert_eq!(place(b"order-17"), "/operations/order-17");
        assert_eq!(place(b"\"a/b ?%#\""), "/operations/a%2Fb%20%3F%25%23");
    }

    /// Clients resolve `.` and `..` away, and some of them `%2E` as well.
    #[test]
    fn a_key_of_dots_is_no_dot_segment() {
        let place = |key: &[u8]| {
            let key = IdempotencyKey::parse(key).unwrap();
            Background::at("/operations").always().place_for(&HeaderMap::new(), &key, None).unwrap()
        };
        for (key, expected) in
            [(".", "(.)"), ("..", "(..)"), ("...", "..."), (".a", ".a"), ("(.)", "%28.%29"), ("(..)", "%28..%29")]
        {
            assert_eq!(place(key.as_bytes()), format!("/operations/{expected}"), "{key}");
        }
    }
}
