//! What moves a log: four parts, a turn at a time. Four threads take the turns of a running store;
//! a simulation takes them itself, one after the other, in any order it likes.

use std::io;
use std::sync::{Arc, Condvar};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::appender::Appender;
use crate::error::CloseError;
use crate::fs::Lock;
use crate::keeper::Keeper;
use crate::limits;
use crate::queue::{Queue, State};
use crate::spares::Maker;
use crate::syncer::Syncer;

/// What became of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Moved,
    /// Nothing to do until somebody else moves, or this much time has passed.
    Waiting(Option<Duration>),
    Ended,
}

/// A part of the log that moves by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Writes groups.
    Appender,
    /// Makes them durable and visible, and answers.
    Syncer,
    /// Makes segments ahead of need.
    Maker,
    /// Notes what the log comes to, and lets old segments go.
    Keeper,
}

/// A log that only moves when told to; see [`crate::Store::open_in_steps`]. Dropped, it stays as a
/// crash would leave it.
pub struct Steps {
    pub(crate) queue: Arc<Queue>,
    pub(crate) appender: Appender,
    pub(crate) syncer: Syncer,
    pub(crate) maker: Maker,
    pub(crate) keeper: Keeper,
    pub(crate) lock: Lock,
}

impl std::fmt::Debug for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steps").finish_non_exhaustive()
    }
}

impl Steps {
    /// One turn; whether anything moved.
    pub fn step(&mut self, part: Part) -> bool {
        let turn = match part {
            Part::Appender => self.appender.turn(),
            Part::Syncer => self.syncer.turn(),
            Part::Maker => self.maker.turn(),
            Part::Keeper => self.keeper.turn(),
        };
        turn == Turn::Moved
    }

    /// Leaves every sync to the syncer, so that written and durable can be told apart.
    pub fn sync_apart(&mut self) {
        self.appender.syncs_alone = false;
    }

    /// Has syncs take so long, as far as the log knows, µs.
    pub fn expect_syncs_to_take(&mut self, us: u64) {
        self.queue.lock().gathering.expect(us);
    }

    /// Brings everything under way to its end and marks the log as closed.
    pub fn close(mut self) -> Result<(), CloseError> {
        self.queue.close();
        while self.step(Part::Appender) || self.step(Part::Syncer) || self.step(Part::Maker) {}
        closed(&self.queue, &mut self.keeper, &self.appender, true)
    }

    /// From now on threads take the turns.
    pub(crate) fn start(self) -> io::Result<Running> {
        let Self {
            queue,
            mut appender,
            mut syncer,
            mut maker,
            mut keeper,
            lock,
        } = self;
        let shared = Arc::clone(&queue);
        let appender = spawn("quern-append", move || {
            let waits = Waits {
                event: &shared.for_appender,
                spins: limits::SPINS,
                may_move: State::appender_may_move,
            };
            waits.run(&shared, || appender.turn());
            appender
        })?;
        let shared = Arc::clone(&queue);
        let syncer = spawn("quern-sync", move || {
            let waits = Waits {
                event: &shared.for_syncer,
                spins: 0,
                may_move: State::syncer_may_move,
            };
            waits.run(&shared, || syncer.turn());
        })?;
        let shared = Arc::clone(&queue);
        let maker = spawn("quern-spares", move || {
            let waits = Waits {
                event: &shared.for_maker,
                spins: 0,
                may_move: State::maker_may_move,
            };
            waits.run(&shared, || maker.turn());
        })?;
        let shared = Arc::clone(&queue);
        let keeper = spawn("quern-keep", move || {
            let waits = Waits {
                event: &shared.for_keeper,
                spins: 0,
                may_move: State::keeper_may_move,
            };
            waits.run(&shared, || keeper.turn());
            keeper
        })?;
        Ok(Running {
            queue,
            appender,
            syncer,
            maker,
            keeper,
            _lock: lock,
        })
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// How a thread waits for its next turn.
struct Waits<'a> {
    event: &'a Condvar,
    /// It looks again this often before it sleeps.
    spins: u32,
    may_move: fn(&State) -> bool,
}

impl Waits<'_> {
    fn run(&self, queue: &Queue, mut turn: impl FnMut() -> Turn) {
        let _alarm = Alarm(queue);
        loop {
            match turn() {
                Turn::Moved => {}
                Turn::Ended => return,
                Turn::Waiting(most) => {
                    if !self.spin(queue) {
                        queue.wait(self.event, most, self.may_move);
                    }
                }
            }
        }
    }

    fn spin(&self, queue: &Queue) -> bool {
        (0..self.spins).any(|_| {
            std::hint::spin_loop();
            (self.may_move)(&queue.lock())
        })
    }
}

/// Should the thread panic, the log has failed: no other waits for it, and nobody is left without an answer.
struct Alarm<'a>(&'a Queue);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let name = thread::current().name().unwrap_or("of no name").to_owned();
            let why = format!("its thread {name} panicked");
            tracing::error!(code = "Q-4002", why, "the log cannot be written any more");
            self.0.fail(&why);
        }
    }
}

/// The threads of a store.
pub(crate) struct Running {
    queue: Arc<Queue>,
    appender: JoinHandle<Appender>,
    syncer: JoinHandle<()>,
    maker: JoinHandle<()>,
    keeper: JoinHandle<Keeper>,
    _lock: Lock,
}

impl Running {
    /// Makes everything durable, and notes that the log is closed if asked to.
    pub(crate) fn stop(self, clean: bool) -> Result<(), CloseError> {
        self.queue.close();
        let appender = self.appender.join();
        let others = (self.syncer.join(), self.maker.join(), self.keeper.join());
        let (Ok(appender), (Ok(()), Ok(()), Ok(mut keeper))) = (appender, others) else {
            let why = self.queue.lock().failed.clone();
            return Err(CloseError::Failed(why.unwrap_or_default()));
        };
        closed(&self.queue, &mut keeper, &appender, clean)
    }
}

fn closed(
    queue: &Queue,
    keeper: &mut Keeper,
    appender: &Appender,
    clean: bool,
) -> Result<(), CloseError> {
    if let Some(why) = queue.lock().failed.clone() {
        return Err(CloseError::Failed(why));
    }
    if clean {
        keeper.close(appender.position())?;
    }
    Ok(())
}
