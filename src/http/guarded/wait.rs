//! A duplicate that waits for the operation that runs.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderMap, Response};
use http_body::Body;
use tokio::time::{sleep, timeout};

use super::RequestContext;
use crate::core::{Claim, Claimed, Command, Fingerprint, Intake, Labels, Record, Stamp};
use crate::engine::claim::Met;
use crate::engine::waiting::{Ended, Seat};
use crate::http::body::ResponseBody;
use crate::http::prefer;
use crate::store::Loaded;
use crate::util::backoff::jittered;
use crate::util::detached::is_left;
use crate::util::nonce::fresh_nonce;

/// Between two looks at the store.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

impl RequestContext {
    /// How long this request waits for one that runs.
    pub(super) fn patience(&self, headers: &HeaderMap) -> Option<Duration> {
        let limit = self.shared.policy.wait?;
        let patience = prefer::wait(headers).map_or(limit, |wished| wished.min(limit));
        Some(patience).filter(|patience| !patience.is_zero())
    }

    /// What the client gets that waited for one that runs.
    pub(super) async fn waited<B: Body>(
        &self,
        fingerprint: Fingerprint,
        patience: Duration,
        left: Duration,
        met: Met,
    ) -> Response<ResponseBody<B>> {
        match Box::pin(self.wait(&fingerprint, patience, met)).await {
            None => self.busy(left, met),
            Some(Ended { claimed, attempt, .. }) if self.seldom.is_some() => {
                self.respond_as_hooked(claimed, attempt).await
            }
            Some(Ended { claimed, attempt, .. }) => self.respond(claimed, attempt),
        }
    }

    /// What it got to know within that time. `None` if that was nothing, if too many
    /// wait, or if its client left.
    async fn wait(&self, fingerprint: &Fingerprint, patience: Duration, met: Met) -> Option<Ended> {
        let _place = self.shared.policy.waiting.try_acquire().ok()?;
        let seat = self.shared.engine.waiting().sit(self.key);
        let mut ended = pin!(timeout(patience, self.ended(&seat, fingerprint, met)));
        let left = poll_fn(|cx| match is_left() {
            true => Poll::Ready(None),
            false => ended.as_mut().poll(cx).map(Result::ok),
        });
        let ended = left.await?;
        // The key was freed and used for another request meanwhile: this one asks anew.
        let is_same = ended.fingerprint.matches(fingerprint);
        is_same.then_some(ended)
    }

    async fn ended(&self, seat: &Seat, fingerprint: &Fingerprint, met: Met) -> Ended {
        tokio::select! {
            biased;
            ended = seat.ended() => ended,
            ended = self.ask(seat, fingerprint, met) => ended,
        }
    }

    /// Asks the store until it has ended, where no holder of this process will tell.
    async fn ask(&self, seat: &Seat, fingerprint: &Fingerprint, met: Met) -> Ended {
        let _turn = seat.turn().await;
        let mut pause = FIRST_PAUSE;
        loop {
            seat.is_elsewhere().await;
            if let Some(ended) = self.look(fingerprint).await {
                seat.announce(ended.clone());
                return ended;
            }
            tokio::select! {
                () = sleep(jittered(pause, 0.5, 1.0)) => {}
                // What runs in this process is waited for, and its end is told. For what runs
                // elsewhere, others wait better.
                () = self.shared.engine.draining().begun() => {
                    let (fingerprint, attempt) = (fingerprint.clone(), met.attempt);
                    let ended = Ended { fingerprint, claimed: Claimed::Closed, attempt };
                    seat.announce(ended.clone());
                    return ended;
                }
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// What a claim would get now, once that is no longer "busy". None is made: what
    /// waited has no body to run with.
    async fn look(&self, fingerprint: &Fingerprint) -> Option<Ended> {
        let engine = &self.shared.engine;
        let loaded = engine.look(&self.key).await.ok()?;
        let claimed = self.would_get(&loaded, fingerprint);
        let attempt = loaded.record.as_ref().map_or(0, Record::attempts);
        let ended = || Ended { fingerprint: fingerprint.clone(), claimed: claimed.clone(), attempt };
        (!matches!(claimed, Claimed::Busy(_))).then(ended)
    }

    /// What a claim would get that met this record.
    pub(super) fn would_get(&self, loaded: &Loaded, fingerprint: &Fingerprint) -> Claimed {
        let engine = &self.shared.engine;
        let (mode, lease) = (self.shared.policy.mode, engine.limits().lease);
        let claim = Claim { fingerprint: fingerprint.clone(), mode, lease, request: None, labels: Labels::new() };
        // It may be that this process still has to save its end.
        let in_hand = engine.in_hand().has(&self.key);
        let intake = if engine.is_draining() { Intake::Closed } else { Intake::Open };
        let stamp = Stamp { in_hand, intake, ..Stamp::new(loaded.now, fresh_nonce()) };
        claim.apply(loaded.record.as_ref(), stamp).output
    }
}
