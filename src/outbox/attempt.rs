//! One attempt to make one call.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Extensions, Request};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::answer::{Next, next};
use super::driver::Disposition;
use super::sender::Answer;
use super::settings::{KEY, Outbox};
use crate::core::{
    Change, Exchange, Fence, IdempotencyKey, Key, Record, Reference, Reply, Resume, Resumed, StoredRequest,
    StoredResponse, one_line,
};
use crate::engine::attempt::reason::{PANICKED, cut_off};
use crate::engine::attempt::{Attempt, End};
use crate::engine::claim::{under_lease, withdraw_claim};
use crate::engine::limits::Limits;
use crate::store::StoreError;
use crate::telemetry::event::EventKind;
use crate::util::backoff::after;
use crate::util::nonce::fresh_nonce;

impl Outbox {
    /// Claims a call, if it is due and this outbox's, and sends it.
    pub(super) async fn go_on(&self, id: Key) -> Disposition {
        match self.claim(id).await {
            Ok(did) => did,
            Err(error) => {
                if error.is_unreadable() {
                    self.state.add_stranger(id);
                    self.engine.emit(&id, || EventKind::Unreadable { error });
                }
                Disposition::Failed
            }
        }
    }

    async fn claim(&self, id: Key) -> Result<Disposition, StoreError> {
        let engine = &self.engine;
        let found = engine.look(&id).await?;
        match &found.record {
            Some(record) if self.is_own(record) => {}
            Some(_) => {
                self.state.add_stranger(id);
                return Ok(Disposition::Skipped);
            }
            None => return Ok(Disposition::Skipped),
        }
        let (max_tries, max_age) = (self.settings.max_tries, self.settings.max_age);
        let command = Resume { lease: engine.limits().lease, max_tries, max_age, outgoing: true };
        let in_hand = engine.in_hand().has(&id);
        let mut exchange = engine.with_metadata(Exchange::looking(command, fresh_nonce())).in_hand(in_hand);
        exchange.answer(Reply::Found(found.record, found.now));
        if let Err(error) = engine.drive(&id, &mut exchange).await {
            // The claim may have been granted; nothing was sent.
            withdraw_claim(engine, id, Fence::of(exchange.nonce()), engine.limits().lease);
            return Err(error);
        }
        let Some(done) = exchange.finish() else { return Ok(Disposition::Failed) };
        Ok(match (done.output, done.record) {
            (Resumed::Granted(fence), Some(record)) => self.send(id, fence, record).await,
            (Resumed::Parked(why), record) => {
                let attempt = record.as_ref().map_or(0, Record::attempts);
                engine.emit_of(Reference { key: id, attempt }, || EventKind::Parked { why: why.to_string() });
                Disposition::NeedsAttention
            }
            _ => Disposition::Skipped,
        })
    }

    async fn send(&self, id: Key, fence: Fence, record: Record) -> Disposition {
        // It also says for how long the response is tried to be stored, and that is worth an hour.
        let limits = self.engine.limits();
        let limits = Limits { max_execution: limits.max_execution.max(self.settings.deadline), ..limits };
        let (number, stored) = (record.attempts(), record.request().cloned());
        let attempt = Attempt::new(self.engine.clone(), id, fence, limits, record, Instant::now());
        attempt.emit(|| EventKind::Resumed { attempt: number });
        let next = match stored.as_deref().and_then(rebuilt) {
            Some(request) => self.sent(&attempt, request).await,
            None => {
                let why = "its stored request has no key, so this outbox can't have stored it".to_owned();
                Some(Next::Attention { why, answer: None })
            }
        };
        match next {
            Some(Next::Ended(answer)) => return self.end(&attempt, &answer).await,
            Some(Next::Again { why, rest }) => {
                attempt.explain(why);
                attempt.rest_at_least(rest);
            }
            Some(Next::Attention { why, answer }) => {
                if let Some(answer) = answer {
                    let step = format!("response {number}").into();
                    // If it does not take, neither does what comes after it.
                    let _ = attempt.write(Change::Save { step, value: shown(&answer) }).await;
                }
                attempt.park("", &one_line(&why));
            }
            None => {}
        }
        let end = attempt.end(Change::Release).await;
        attempt.emit_end(&end, false);
        match end {
            End::Stored => {
                self.state.due.set(after(attempt.retry_in().await));
                Disposition::PutOff
            }
            End::Parked => Disposition::NeedsAttention,
            End::Lost(_) => Disposition::Skipped,
            End::Unsaved(_) => Disposition::Failed,
        }
    }

    /// Sends it under the lease; nothing, if that was cut short.
    async fn sent(&self, attempt: &Arc<Attempt>, request: Request<Bytes>) -> Option<Next> {
        let uri = request.uri().clone();
        match timeout(self.settings.deadline, under_lease(attempt, self.sender.send(request))).await {
            Ok(Ok(sent)) => return Some(next(sent, &uri)),
            Ok(Err(_panicked)) => {
                attempt.emit(|| EventKind::Panicked);
                attempt.explain(PANICKED.to_owned());
            }
            Err(_) => {
                attempt.emit(|| EventKind::CutOff { steps: attempt.running() });
                attempt.explain(cut_off(attempt, self.settings.deadline));
            }
        }
        None
    }

    async fn end(&self, attempt: &Arc<Attempt>, answer: &Answer) -> Disposition {
        let response = Arc::new(kept(answer));
        let (status, retained) = (response.status().as_u16(), response.body().is_some());
        match attempt.end(attempt.complete(response, &Extensions::new())).await {
            End::Stored => {
                attempt.emit(|| EventKind::Completed { status, retained });
                Disposition::Sent
            }
            End::Unsaved(error) => {
                attempt.emit(|| EventKind::Unsaved { error });
                Disposition::Failed
            }
            End::Parked => Disposition::NeedsAttention,
            End::Lost(_) => Disposition::Skipped,
        }
    }
}

/// The request, with its key where the client takes it from.
fn rebuilt(stored: &StoredRequest) -> Option<Request<Bytes>> {
    let mut request = Request::new(stored.body().clone());
    (*request.method_mut(), *request.uri_mut()) = (stored.method().clone(), stored.uri().clone());
    for (name, value) in stored.headers() {
        request.headers_mut().append(name.clone(), value.clone());
    }
    let key = IdempotencyKey::parse(request.headers_mut().remove(KEY)?.as_bytes()).ok()?;
    request.extensions_mut().insert(key);
    Some(request)
}

/// The response as it is kept.
fn kept(answer: &Answer) -> StoredResponse {
    let (status, headers) = (answer.status(), answer.headers());
    match answer.body() {
        Ok(body) => StoredResponse::capture(status, headers, Some(body.clone())),
        Err(why) => StoredResponse::capture_head(status, headers, *why),
    }
}

/// The response as an operator sees it who has to decide.
fn shown(answer: &Answer) -> Bytes {
    let response = kept(answer);
    let body = response.body().map(|body| match str::from_utf8(body) {
        Ok(text) => json!({ "text": text }),
        Err(_) => json!({ "base64": BASE64_STANDARD.encode(body) }),
    });
    let text = |(name, value): &(http::HeaderName, http::HeaderValue)| {
        json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())])
    };
    let headers: Vec<_> = response.headers().iter().map(text).collect();
    json!({ "status": response.status().as_u16(), "headers": headers, "body": body }).to_string().into()
}
