//! Threads for what may take long, so that it never happens on a thread that serves connections; each
//! keeps something that its jobs use one after the other.
//!
//! A job is done in steps. When those of a turn have taken a while, the next turn is of whoever has used the least time
//! ([`crate::line`]), so nobody is held up by what others do for longer than a step of each thread takes.

use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use quern_plugins::Worker;
use quern_protocol::{GroupName, TopicId, WireError};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{Semaphore, oneshot};

use crate::line::{Line, SLICE};
use crate::reply;
use crate::shares::Shares;

/// Threads that run guests: each owns a plugin worker, so instances stay warm.
pub(crate) type Delivery = Pool<Worker>;

/// For whom a job is done. A group has one share of the threads, whatever filters it asks in however many queues: that is
/// whom a neighbour must not hold up, and one who wants more than a share wins nothing by asking for it in parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// Who consumes for it.
    Group(GroupName),
    /// Who consumes for none, all of them.
    NoGroup,
    /// Who sends to it, and has selectors choose.
    Senders(TopicId),
    /// Who looks for messages, asks what plugins would say, or puts them into service.
    Others,
}

impl From<Option<&GroupName>> for Who {
    fn from(group: Option<&GroupName>) -> Self {
        group.map_or(Self::NoGroup, |it| Self::Group(it.clone()))
    }
}

/// One step; it goes on until it breaks off.
type Job<T> = Box<dyn FnMut(&mut T) -> ControlFlow<()> + Send>;

/// A fixed number of threads and the bounded line before them.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    waiting: Arc<Waiting<T>>,
    room: Arc<Semaphore>,
    shares: Shares,
}

/// How many jobs there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// In line or at work, of all; others wait until there is room.
    pub(crate) all: usize,
    /// The same of each, so that one with very many leaves room for others.
    pub(crate) each: usize,
}

/// What the threads share.
struct Waiting<T> {
    state: Mutex<State<T>>,
    came: Condvar,
}

struct State<T> {
    line: Line<Who, Job<T>>,
    is_over: bool,
}

impl<T> std::fmt::Debug for Waiting<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waiting")
    }
}

impl<T: Send + 'static> Pool<T> {
    /// One thread for each of what is kept; each job finds it as `before` leaves it. Threads end when the pool is gone.
    pub(crate) fn start(
        name: &str,
        kept: impl IntoIterator<Item = T>,
        bounds: Bounds,
        before: fn(&mut T),
    ) -> std::io::Result<Self> {
        let pool = Self {
            waiting: Arc::new(Waiting {
                state: Mutex::new(State {
                    line: Line::new(),
                    is_over: false,
                }),
                came: Condvar::new(),
            }),
            room: Arc::new(Semaphore::new(bounds.all)),
            shares: Shares::new(bounds.each),
        };
        for (number, mut kept) in kept.into_iter().enumerate() {
            let waiting = Arc::clone(&pool.waiting);
            thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || waiting.work(&mut kept, before))?;
        }
        Ok(pool)
    }

    /// Runs `work` on one of the threads, when it is its turn.
    pub(crate) async fn run<A: Send + 'static>(
        &self,
        who: Who,
        work: impl FnOnce(&mut T) -> A + Send + 'static,
    ) -> Result<A, WireError> {
        self.run_in_steps(who, work, |work, kept| ControlFlow::Break(work(kept)))
            .await
    }

    /// The same in steps, from one to the next and perhaps from thread to thread; the last says what came of it.
    pub(crate) async fn run_in_steps<S: Send + 'static, A: Send + 'static>(
        &self,
        who: Who,
        begin: S,
        mut step: impl FnMut(S, &mut T) -> ControlFlow<A, S> + Send + 'static,
    ) -> Result<A, WireError> {
        let share = self.shares.one(&who).await;
        let room = Arc::clone(&self.room).acquire_owned().await;
        let room = room.expect("it is never closed");
        let (answer, answered) = oneshot::channel();
        let mut under_way = Some((begin, answer));
        let job: Job<T> = Box::new(move |kept| {
            // Given back with the job.
            let _permits = (&share, &room);
            let Some((state, answer)) = under_way.take() else {
                return ControlFlow::Break(());
            };
            // Nobody waits for the answer any more: skip the work.
            if answer.is_closed() {
                return ControlFlow::Break(());
            }
            match step(state, kept) {
                ControlFlow::Continue(state) => {
                    under_way = Some((state, answer));
                    ControlFlow::Continue(())
                }
                ControlFlow::Break(done) => {
                    let _ = answer.send(done);
                    ControlFlow::Break(())
                }
            }
        });
        self.waiting.lock().line.put(who, job);
        self.waiting.came.notify_one();
        answered.await.map_err(|_| reply::delivery_stopped())
    }
}

impl<T> Drop for Pool<T> {
    fn drop(&mut self) {
        self.waiting.lock().is_over = true;
        self.waiting.came.notify_all();
    }
}

impl<T> Waiting<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread's life.
    fn work(&self, kept: &mut T, before: fn(&mut T)) {
        let mut begins = spent();
        let mut turn = self.next(self.lock());
        while let Some((who, mut job)) = turn {
            before(kept);
            let (is_done, ends) = loop {
                let is_done = job(kept).is_break();
                let ends = spent();
                if is_done || ends.saturating_sub(begins) >= SLICE {
                    break (is_done, ends);
                }
            };
            // What it holds is given back before another is waited for.
            let rest = (!is_done).then_some(job);
            let mut state = self.lock();
            state.line.over(who, ends.saturating_sub(begins), rest);
            turn = self.next(state);
            begins = ends;
        }
    }

    /// Waits for a job; `None` = there will be none.
    fn next(&self, mut state: MutexGuard<'_, State<T>>) -> Option<(Who, Job<T>)> {
        loop {
            if state.is_over {
                return None;
            }
            if let Some(next) = state.line.next() {
                return Some(next);
            }
            let waited = self.came.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Processor time of this thread, ns: who shares a busy machine pays for what it does and not for what others do.
fn spent() -> u64 {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    spent.tv_sec as u64 * 1_000_000_000 + spent.tv_nsec as u64
}
