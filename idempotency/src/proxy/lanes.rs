//! Threads that each serve some of the connections.
//!
//! A connection stays in one of them, and with it the connections to the upstream on which its
//! requests go out: no other thread is woken to pass a request on. What all share, such as a connection of the store,
//! is driven where it was made.

use std::cell::OnceCell;
use std::io;
use std::num::NonZero;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

/// The processors, counted once: a process may be given others while it runs.
static COUNT: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, NonZero::get));

thread_local! {
    static HERE: OnceCell<(usize, Count)> = const { OnceCell::new() };
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How many connections a lane has.
type Count = Arc<AtomicUsize>;

/// All of them.
#[derive(Clone)]
pub(crate) struct Lanes {
    lanes: Arc<[Lane]>,
    ends: Arc<watch::Sender<bool>>,
}

struct Lane {
    work: UnboundedSender<Work>,
    connections: Count,
}

impl Lanes {
    /// Starts one for each processor.
    ///
    /// # Errors
    ///
    /// What the system says to another thread.
    pub(crate) fn start() -> io::Result<Self> {
        let ends = Arc::new(watch::Sender::new(false));
        let lanes = (0..*COUNT).map(|number| Lane::start(number, ends.subscribe()));
        Ok(Self { lanes: lanes.collect::<io::Result<_>>()?, ends })
    }

    /// Serves a connection in the one that has the fewest.
    ///
    /// # Errors
    ///
    /// That no lane is there any more: each has panicked.
    pub(crate) fn serve(&self, connection: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let lanes = self.lanes.iter().filter(|lane| !lane.work.is_closed());
        let fewest = lanes.min_by_key(|lane| lane.connections.load(Ordering::Relaxed));
        let lane = fewest.ok_or_else(|| io::Error::other("no thread is left to serve it"))?;
        let left = Left::one_more(&lane.connections);
        let work = async move {
            let _left = left;
            connection.await;
        };
        lane.work.send(Box::pin(work)).map_err(|_| io::Error::other("its thread has ended"))
    }

    /// Drops what still runs in them.
    pub(crate) async fn end(self) {
        // The receivers go with the threads.
        self.ends.send_replace(true);
        self.ends.closed().await;
    }
}

impl Lane {
    fn start(number: usize, ends: watch::Receiver<bool>) -> io::Result<Self> {
        let (work, next) = unbounded_channel();
        let connections = Count::default();
        let here = (number, Arc::clone(&connections));
        let runtime = Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name(format!("lane-{number}")).spawn(move || {
            let _ = HERE.with(|cell| cell.set(here));
            run(runtime, next, ends);
        })?;
        Ok(Self { work, connections })
    }
}

/// `ends` is dropped last, after all that ran.
fn run(runtime: Runtime, mut next: UnboundedReceiver<Work>, mut ends: watch::Receiver<bool>) {
    runtime.block_on(async {
        let over = ends.wait_for(|is_over| *is_over);
        tokio::pin!(over);
        loop {
            tokio::select! {
                work = next.recv() => match work {
                    Some(work) => _ = tokio::spawn(work),
                    None => return,
                },
                _ = &mut over => return,
            }
        }
    });
    drop(next);
    drop(runtime);
}

/// One connection less, however it ends.
pub(crate) struct Left(Count);

impl Left {
    fn one_more(connections: &Count) -> Self {
        connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connections))
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts what goes on in this lane when its connection does not any more.
pub(crate) fn one_more() -> Option<Left> {
    HERE.with(|cell| cell.get().map(|(_, connections)| Left::one_more(connections)))
}

/// Something of which each lane has one of its own.
#[derive(Debug)]
pub(crate) struct OfEach<T>(Box<[T]>);

impl<T> OfEach<T> {
    pub(crate) fn new(make: impl Fn() -> T) -> Self {
        Self((0..*COUNT).map(|_| make()).collect())
    }

    /// That of the lane that this thread is.
    pub(crate) fn here(&self) -> &T {
        &self.0[number()]
    }
}

fn number() -> usize {
    HERE.with(|cell| cell.get().map_or(0, |(number, _)| *number))
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
        let connection = async move {
            told.send(number()).expect("the test listens");
            let _ = ended.await;
        };
        lanes.serve(connection).expect("a lane");
        end
    }

    #[tokio::test]
    async fn each_has_as_many_connections_as_the_others() {
        let lanes = Lanes::start().expect("threads");
        let (told, mut heard) = unbounded_channel();
        let mut open = Vec::new();
        for round in 0..3 {
            open.extend((0..*COUNT).map(|_| begin(&lanes, &told)));
            let mut seen = BTreeSet::new();
            for _ in 0..*COUNT {
                seen.insert(heard.recv().await.expect("a connection"));
            }
            assert_eq!(seen, (0..*COUNT).collect(), "round {round}");
        }
    }

    #[tokio::test]
    async fn one_that_ended_makes_room() {
        let lanes = Lanes::start().expect("threads");
        let (told, mut heard) = unbounded_channel();
        let mut open = Vec::new();
        for _ in 0..*COUNT {
            let end = begin(&lanes, &told);
            open.push((heard.recv().await.expect("a connection"), end));
        }
        let (place, end) = open.pop().expect("one");
        drop(end);
        let ends = async {
            while lanes.lanes.iter().all(|lane| lane.connections.load(Ordering::Relaxed) > 0) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ends).await.expect("it does not count any more");
        let _open = begin(&lanes, &told);
        assert_eq!(heard.recv().await, Some(place));
    }

    /// As one that asks for another protocol ends, and what it asked for goes on.
    #[tokio::test]
    async fn what_goes_on_after_its_connection_counts() {
        let lanes = Lanes::start().expect("threads");
        let (told, mut heard) = unbounded_channel();
        let mut open = Vec::new();
        for _ in 0..*COUNT {
            let (end, ended) = oneshot::channel::<()>();
            let told = told.clone();
            let connection = async move {
                let left = one_more();
                tokio::spawn(async move {
                    let _left = left;
                    // Once the connection is over.
                    tokio::task::yield_now().await;
                    told.send(number()).expect("the test listens");
                    let _ = ended.await;
                });
            };
            lanes.serve(connection).expect("a lane");
            open.push((end, heard.recv().await.expect("it goes on")));
        }
        let places: BTreeSet<_> = open.iter().map(|(_, place)| *place).collect();
        assert_eq!(places, (0..*COUNT).collect());
    }

    #[tokio::test]
    async fn a_dead_lane_is_given_nothing() {
        let lanes = Lanes::start().expect("threads");
        let (told, mut heard) = unbounded_channel();
        let dead = lanes.clone();
        dead.end().await;
        assert!(lanes.serve(async {}).is_err(), "none is left");
        let (work, _) = unbounded_channel();
        let gone = Lane { work, connections: Count::default() };
        let ends = Arc::new(watch::Sender::new(false));
        let alive = Lane::start(0, ends.subscribe()).expect("a thread");
        // The first that has the fewest would be the dead one.
        let lanes = Lanes { lanes: [gone, alive].into(), ends };
        let _open = begin(&lanes, &told);
        assert_eq!(heard.recv().await, Some(0));
    }

    #[tokio::test]
    async fn the_end_drops_what_runs() {
        let lanes = Lanes::start().expect("threads");
        let held = Arc::new(());
        for _ in 0..*COUNT {
            let held = Arc::clone(&held);
            let connection = async move {
                std::future::pending::<()>().await;
                drop(held);
            };
            lanes.serve(connection).expect("a lane");
        }
        lanes.end().await;
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
