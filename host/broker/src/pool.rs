//! Threads for what may take long, so that it never happens on a thread that serves connections; each
//! keeps something that its jobs use one after the other.
//!
//! A job is done in steps. When those of a turn have taken a while, the next turn is of whoever has used the least time
//! ([`crate::line`]), so nobody is held up by what others do for longer than a step of each thread takes. A job that
//! panics breaks off, and the thread goes on with another.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
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

/// What a thread's turns cost, by two readings of it, ns.
pub(crate) type Clock = fn() -> u64;

/// What the threads share.
struct Waiting<T> {
    state: Mutex<State<T>>,
    came: Condvar,
    clock: Clock,
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

impl<T: Default + Send + 'static> Pool<T> {
    /// Each job finds what its thread keeps as `before` leaves it. Threads end when the pool is gone.
    pub(crate) fn start(
        name: &str,
        threads: usize,
        bounds: Bounds,
        before: fn(&mut T),
        clock: Clock,
    ) -> std::io::Result<Self> {
        let pool = Self {
            waiting: Arc::new(Waiting {
                state: Mutex::new(State {
                    line: Line::new(),
                    is_over: false,
                }),
                came: Condvar::new(),
                clock,
            }),
            room: Arc::new(Semaphore::new(bounds.all)),
            shares: Shares::new(bounds.each),
        };
        for number in 0..threads {
            let waiting = Arc::clone(&pool.waiting);
            thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || waiting.work(before))?;
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
        answered.await.map_err(|_| reply::broke_off())
    }
}

impl<T> Drop for Pool<T> {
    fn drop(&mut self) {
        self.waiting.lock().is_over = true;
        self.waiting.came.notify_all();
    }
}

impl<T: Default> Waiting<T> {
    /// A thread's life.
    fn work(&self, before: fn(&mut T)) {
        let mut kept = T::default();
        let mut turn = self.next(self.lock());
        while let Some((who, mut job)) = turn {
            let begins = (self.clock)();
            let turned = catch_unwind(AssertUnwindSafe(|| {
                before(&mut kept);
                loop {
                    let is_done = job(&mut kept).is_break();
                    let took = (self.clock)().saturating_sub(begins);
                    if is_done || took >= SLICE {
                        return (is_done, took);
                    }
                }
            }));
            let (is_done, took) = turned.unwrap_or_else(|_| {
                // It may be anything by now.
                kept = T::default();
                (true, (self.clock)().saturating_sub(begins))
            });
            // What it holds is given back before another is waited for.
            let rest = (!is_done).then_some(job);
            let mut state = self.lock();
            state.line.over(who, took, rest);
            turn = self.next(state);
        }
    }
}

impl<T> Waiting<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Processor time of this thread: who shares a busy machine pays for what it does and not for what others do.
pub(crate) fn of_the_processor() -> u64 {
    read(ClockId::ThreadCPUTime)
}

/// For how long the thread is taken, whether it works or waits for a disk.
pub(crate) fn of_the_thread() -> u64 {
    read(ClockId::Monotonic)
}

fn read(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::mpsc::channel;

    use super::*;

    const BOUNDS: Bounds = Bounds { all: 64, each: 64 };

    thread_local! {
        /// So much is said to have been spent, ns.
        static SPENT: Cell<u64> = const { Cell::new(0) };
    }

    #[tokio::test]
    async fn a_job_that_panics_takes_no_thread_with_it_and_leaves_nothing_behind() {
        let pool = Pool::<u32>::start("test", 1, BOUNDS, |_| {}, of_the_thread).unwrap();
        let count = |kept: &mut u32| {
            *kept += 1;
            *kept
        };
        for _ in 0..3 {
            assert_eq!(pool.run(Who::NoGroup, count).await, Ok(1));
            assert_eq!(pool.run(Who::Others, count).await, Ok(2));
            let broken = pool.run(Who::NoGroup, |kept: &mut u32| {
                *kept = 77;
                panic!("a bug");
            });
            let broken: Result<(), _> = broken.await;
            assert_eq!(broken, Err(reply::broke_off()));
        }
    }

    #[tokio::test]
    async fn whoever_has_used_more_by_the_clock_of_the_pool_waits_for_others() {
        let clock = || SPENT.get();
        let pool = Pool::<()>::start("test", 1, BOUNDS, |()| {}, clock).unwrap();
        let who = |name: &str| Who::Group(GroupName::new(name).unwrap());
        let (go_on, wait) = channel::<()>();
        let (did, order) = channel();
        let job = |name: &'static str| {
            let did = did.clone();
            let work = move |(): &mut ()| {
                SPENT.set(SPENT.get() + 20 * SLICE);
                did.send(name).unwrap();
            };
            pool.run(who(name), work)
        };
        let hold = pool.run(Who::NoGroup, move |()| wait.recv().is_err());
        // In line one after the other, while the thread is held up.
        let release = async {
            tokio::task::yield_now().await;
            drop(go_on);
        };
        let (_, a, b, c, d, ()) =
            tokio::join!(hold, job("a"), job("a"), job("a"), job("b"), release);
        assert!([a, b, c, d].iter().all(Result::is_ok));
        drop(did);
        assert_eq!(order.iter().collect::<Vec<_>>(), ["a", "b", "a", "a"]);
    }
}
