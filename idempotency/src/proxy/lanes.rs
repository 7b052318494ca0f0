//! Threads that each serve some of the connections.
//!
//! A connection stays in one of them, and with it the connections to the upstream on which its
//! requests go out: no other thread is woken for a request.

use std::cell::Cell;
use std::num::NonZero;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{io, thread};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// All of them. They end with the process.
#[derive(Clone)]
pub(crate) struct Lanes(Arc<[Lane]>);

struct Lane {
    work: UnboundedSender<Work>,
    /// How many connections it has.
    connections: Arc<AtomicUsize>,
}

impl Lanes {
    /// Starts one for each processor.
    pub(crate) fn start() -> io::Result<Self> {
        (0..count()).map(Lane::start).collect::<io::Result<Vec<_>>>().map(|lanes| Self(lanes.into()))
    }

    /// Serves a connection in the one that has the fewest.
    pub(crate) fn serve(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let Some(lane) = self.0.iter().min_by_key(|lane| lane.connections.load(Ordering::Relaxed)) else { return };
        lane.connections.fetch_add(1, Ordering::Relaxed);
        let left = Left(Arc::clone(&lane.connections));
        let work = async move {
            let _left = left;
            connection.await;
        };
        // It takes work for as long as the process runs.
        let _ = lane.work.send(Box::pin(work));
    }
}

impl Lane {
    fn start(number: usize) -> io::Result<Self> {
        let (work, next) = unbounded_channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name(format!("lane-{number}")).spawn(move || {
            NUMBER.set(number);
            run(&runtime, next);
        })?;
        Ok(Self { work, connections: Arc::default() })
    }
}

fn run(runtime: &Runtime, mut next: UnboundedReceiver<Work>) {
    runtime.block_on(async move {
        while let Some(work) = next.recv().await {
            tokio::spawn(work);
        }
    });
}

/// One connection less, however it ends.
struct Left(Arc<AtomicUsize>);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many there are.
pub(crate) fn count() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// The one that this thread is, for what each of them has of its own.
pub(crate) fn here() -> usize {
    NUMBER.get()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    /// Serves a connection that lasts until the sender is dropped, and says where it is.
    fn begin(lanes: &Lanes, told: &UnboundedSender<usize>) -> oneshot::Sender<()> {
        let (end, ended) = oneshot::channel::<()>();
        let told = told.clone();
        lanes.serve(async move {
            told.send(here()).expect("the test listens");
            let _ = ended.await;
        });
        end
    }

    #[tokio::test]
    async fn each_has_as_many_connections_as_the_others() {
        let lanes = Lanes::start().expect("threads");
        let (told, mut heard) = unbounded_channel();
        let mut open = Vec::new();
        for round in 0..3 {
            open.extend((0..count()).map(|_| begin(&lanes, &told)));
            let mut seen = BTreeSet::new();
            for _ in 0..count() {
                seen.insert(heard.recv().await.expect("a connection"));
            }
            assert_eq!(seen, (0..count()).collect(), "round {round}");
        }
    }

    #[tokio::test]
    async fn one_that_ended_makes_room() {
        let lanes = Lanes::start().expect("threads");
        let (told, mut heard) = unbounded_channel();
        let mut open = Vec::new();
        for _ in 0..count() {
            let end = begin(&lanes, &told);
            open.push((heard.recv().await.expect("a connection"), end));
        }
        let (place, end) = open.pop().expect("one");
        drop(end);
        let ends = async {
            while lanes.0.iter().all(|lane| lane.connections.load(Ordering::Relaxed) > 0) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ends).await.expect("it does not count any more");
        let _open = begin(&lanes, &told);
        assert_eq!(heard.recv().await, Some(place));
    }
}
