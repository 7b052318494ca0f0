//! Reading a request's body: within its limit, a time, and a budget of memory
//! that all uploads share.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use tokio::time::{Sleep, sleep};

use crate::engine::content::Content;
use crate::http::body::{EMPTY_FRAMES, weight};
use crate::telemetry::refusal::Refusal;
use crate::util::signal::lock;

/// What uploads may hold, and how long they may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UploadLimits {
    /// All together, in bytes.
    pub(crate) budget: usize,
    /// Those of one scope, in bytes; a quarter of the budget if not set.
    pub(crate) per_scope: Option<usize>,
    pub(crate) timeout: Duration,
}

impl UploadLimits {
    /// 256 MiB, a quarter of it for one scope, 30 seconds.
    pub(crate) const DEFAULT: Self = Self { budget: 256 << 20, per_scope: None, timeout: Duration::from_secs(30) };
}

/// The bytes that uploads hold while they wait for more. Shared by clones of a
/// layer.
#[derive(Clone, Default)]
pub(crate) struct Uploads(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    all: usize,
    scopes: HashMap<Box<str>, usize>,
}

/// What one upload holds of the budget; given back when dropped.
struct Share {
    uploads: Uploads,
    scope: Box<str>,
    most: usize,
    most_of_scope: usize,
    bytes: usize,
}

impl Share {
    /// Holds `bytes` in all from now on, or what it held before if there is no
    /// room.
    fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let mut held = lock(&self.uploads.0);
        let of_scope = held.scopes.get(&self.scope).copied().unwrap_or(0);
        if held.all.saturating_add(more) > self.most || of_scope.saturating_add(more) > self.most_of_scope {
            return Err(Refusal::UploadOverload);
        }
        held.all += more;
        if let Some(of_scope) = held.scopes.get_mut(&self.scope) {
            *of_scope += more;
        } else {
            held.scopes.insert(self.scope.clone(), more);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut held = lock(&self.uploads.0);
        held.all = held.all.saturating_sub(self.bytes);
        let left = held.scopes.get_mut(&self.scope).map(|of_scope| {
            *of_scope = of_scope.saturating_sub(self.bytes);
            *of_scope
        });
        if left == Some(0) {
            held.scopes.remove(&self.scope);
        }
    }
}

/// How often an upload had to wait.
enum Patience {
    /// Never: all of it was there at once, so far.
    Untried,
    /// Once. hyper hands a body over only after it was asked for, so most have
    /// to be asked for twice; a timer for each would be a waste.
    AskedAgain,
    /// More often: it is slow.
    Until(Pin<Box<Sleep>>),
}

/// A request body while it is read.
///
/// Its bytes are copied as they come: what a connection hands out are slices of
/// its read buffer, which may be many times as large, and would be kept as a
/// whole for each of them.
pub(crate) struct Upload {
    read: Vec<u8>,
    trailers: Option<Box<HeaderMap>>,
    limit: usize,
    timeout: Duration,
    patience: Patience,
    share: Share,
}

impl Upload {
    /// For a request of this scope; callers that share one have an empty one.
    pub(crate) fn new(uploads: &Uploads, limits: UploadLimits, limit: usize, scope: String) -> Self {
        // One body that the route accepts always fits, while there is no other.
        let most = limits.budget.max(limit);
        let most_of_scope = match limits.per_scope {
            _ if scope.is_empty() => most,
            Some(bytes) => bytes.max(limit),
            None => (most / 4).max(limit),
        };
        let share = Share { uploads: uploads.clone(), scope: scope.into_boxed_str(), most, most_of_scope, bytes: 0 };
        Self { read: Vec::new(), trailers: None, limit, timeout: limits.timeout, patience: Patience::Untried, share }
    }

    /// Reads on; all of it, once it is there. A body that has something ready for
    /// ever, and nothing in it, is waited for like one that is slow.
    pub(crate) fn poll<B: Body<Data = Bytes>>(
        &mut self,
        mut body: Pin<&mut B>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Content, Refusal>> {
        // How many frames with nothing in them came since it was last waited for.
        let mut empty = 0;
        loop {
            if empty > EMPTY_FRAMES {
                cx.waker().wake_by_ref();
                return self.wait(cx).map(Err);
            }
            let frame = match body.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Refusal::BodyIncomplete)),
                Poll::Ready(None) => return Poll::Ready(Ok(self.take())),
                Poll::Pending => return self.wait(cx).map(Err),
            };
            let data = match frame.into_data() {
                Ok(data) => data,
                Err(frame) => {
                    empty += 1;
                    self.trailers = frame.into_trailers().ok().filter(|all| !all.is_empty()).map(Box::new);
                    if self.read.len() + self.trailers.as_deref().map_or(0, weight) > self.limit {
                        return Poll::Ready(Err(Refusal::BodyTooLarge));
                    }
                    continue;
                }
            };
            empty += usize::from(data.is_empty());
            let left = body.size_hint().upper().and_then(|left| usize::try_from(left).ok());
            if let Err(refusal) = self.add(&data, left.unwrap_or(self.limit)) {
                return Poll::Ready(Err(refusal));
            }
        }
    }

    /// Adds what came; `left` is what may still come, by what the head says.
    fn add(&mut self, data: &[u8], left: usize) -> Result<(), Refusal> {
        let needed = self.read.len() + data.len();
        // Counted, not believed: a length in the head proves nothing.
        if needed > self.limit {
            return Err(Refusal::BodyTooLarge);
        }
        if needed > self.read.capacity() {
            // Twice as much as before, but no more than is announced: a
            // client that announces much and sends little gets little.
            let announced = needed.saturating_add(left).min(self.limit);
            let capacity = needed.max(announced.min(2 * self.read.capacity()));
            if matches!(self.patience, Patience::Until(_)) {
                self.share.grow(capacity)?;
            }
            self.read.reserve_exact(capacity - self.read.len());
        }
        self.read.extend_from_slice(data);
        Ok(())
    }

    fn take(&mut self) -> Content {
        let mut read = std::mem::take(&mut self.read);
        read.shrink_to_fit();
        Content { bytes: read.into(), trailers: self.trailers.take() }
    }

    /// Waits for more; ready with a refusal, if that takes too long or there is
    /// no room for what is there.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Refusal> {
        if let Err(refusal) = self.share.grow(self.read.capacity()) {
            return Poll::Ready(refusal);
        }
        match &mut self.patience {
            Patience::Untried => {
                self.patience = Patience::AskedAgain;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Patience::AskedAgain => self.patience = Patience::Until(Box::pin(sleep(self.timeout))),
            Patience::Until(_) => {}
        }
        let Patience::Until(time) = &mut self.patience else { return Poll::Pending };
        time.as_mut().poll(cx).map(|()| Refusal::BodyTimeout)
    }
}
