//! When the renewal of a lease begins: a timer, and a task only once that is due.
//!
//! Most work ends long before. A task for each would cost it more than its claim does: another
//! thread is woken for it, and takes along what this one was about to do.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep};

use super::Attempt;
use crate::util::signal::lock;

pin_project! {
    /// Begins the renewal when it is due. Dropped, it ends it.
    pub(crate) struct Renewal {
        #[pin]
        timer: Sleep,
        due: Due,
    }
}

impl Renewal {
    pub(crate) fn new(attempt: &Arc<Attempt>) -> Self {
        let due = Due(Arc::new(Alarm {
            attempt: Arc::clone(attempt),
            runtime: Handle::current(),
            started: Instant::now(),
            task: Mutex::default(),
        }));
        Self { timer: sleep(attempt.limits.lease / 3), due }
    }

    /// From here on it begins by itself. It does not go by whether the work is polled, which may
    /// block its thread, or be left alone by what it is part of.
    pub(crate) fn set(self: Pin<&mut Self>) {
        let this = self.project();
        let waker = Waker::from(Arc::clone(&this.due.0));
        if this.timer.poll(&mut Context::from_waker(&waker)).is_ready() {
            waker.wake();
        }
    }
}

struct Alarm {
    attempt: Arc<Attempt>,
    runtime: Handle,
    started: Instant,
    task: Mutex<Task>,
}

#[derive(Default)]
enum Task {
    #[default]
    NotDue,
    Runs(AbortHandle),
    Over,
}

/// Woken too early, the task waits for the rest.
impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        let mut task = lock(&self.task);
        if matches!(*task, Task::NotDue) {
            let renewal = Arc::clone(&self.attempt).renew_until_end(self.started);
            *task = Task::Runs(self.runtime.spawn(renewal).abort_handle());
        }
    }
}

struct Due(Arc<Alarm>);

impl Drop for Due {
    fn drop(&mut self) {
        let task = std::mem::replace(&mut *lock(&self.0.task), Task::Over);
        if let Task::Runs(task) = task {
            task.abort();
        }
    }
}
