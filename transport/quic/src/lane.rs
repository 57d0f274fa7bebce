//! A lane: one long stream with many requests in flight, answered in any order.
//!
//! Requests are encoded straight into the next write, in the order of the calls; replies find their
//! call by an index that is part of the correlation id. One task reads and writes; whoever calls
//! shares a lock with it for a few instructions, never across a wait. Calls, their bytes and their
//! time are bounded; when the connection ends, every call learns how.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use quern_protocol::frame::{Frame, Outgoing};
use quern_protocol::{Cancel, Operation};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use crate::batch::Batch;
use crate::connection::{Connection, decode};
use crate::error::{CallError, CloseReason, EndedBy, Lost, StreamError};
use crate::limits;
use crate::slots::{Outcome, Slots};
use crate::stream::{FrameReceiver, FrameSender};

/// Deadlines are looked at no more often than this.
const DEADLINE_GRAIN: Duration = Duration::from_millis(5);

/// A long stream for many calls. Clones share it; it ends with the last one and its last call.
#[derive(Debug, Clone)]
pub struct Lane(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Lane {
    pub(crate) fn shared(&self) -> &Shared {
        &self.0.shared
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.unused = true;
        state.wake_driver();
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// One permit a call and for each further 4 KiB of its frame.
    pub(crate) room: Arc<Semaphore>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) slots: Slots,
    next: Batch,
    /// Permits of frames in `next` whose call is given up, or that belong to none: they return with its writing.
    owed: usize,
    driver: Option<Waker>,
    pub(crate) ended: Option<Lost>,
    unused: bool,
}

impl State {
    fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    /// Writes a frame whose permits return once it is written.
    pub(crate) fn write(&mut self, frame: Outgoing, permits: usize) {
        self.next.push(frame);
        self.owed += permits;
        self.wake_driver();
    }
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no one panics holding it")
    }

    /// Gives every call its end and takes no more.
    fn end(&self, lost: Lost) {
        let mut state = self.state();
        let wakers = state.slots.end_all(&lost);
        state.ended.get_or_insert(lost);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Lane {
    /// Opens a stream of the connection as a lane.
    pub async fn open(connection: &Connection) -> Result<Self, Lost> {
        Ok(Self::start(connection.open().await?))
    }

    /// The same for the session, whose frames are few and small.
    pub(crate) async fn session(connection: &Connection) -> Result<Self, Lost> {
        Ok(Self::start(connection.open_short().await?))
    }

    fn start((sender, receiver): (FrameSender, FrameReceiver)) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                slots: Slots::new(),
                next: Batch::new(),
                owed: 0,
                driver: None,
                ended: None,
                unused: false,
            }),
            room: Arc::new(Semaphore::new(limits::LANE_CALLS)),
        });
        let mut driver = Driver {
            shared: shared.clone(),
            sender,
            receiver,
            writing: Batch::new(),
            owed: 0,
            alarm: None,
            arrived: Vec::new(),
            wakers: Vec::new(),
        };
        tokio::spawn(async move {
            let lost = std::future::poll_fn(|cx| driver.poll(cx)).await;
            driver.sender.finish();
            driver.shared.end(lost);
        });
        Self(Arc::new(Handle { shared }))
    }

    /// Makes a call. It is under way when this returns, in the order of the calls, unless the lane
    /// is full: then it waits its turn when first polled. Dropped, it is cancelled.
    pub fn call<O: Operation>(
        &self,
        operation: &O,
        body: Vec<Bytes>,
        within: Duration,
    ) -> LaneCall<O> {
        let deadline = Instant::now() + within;
        let mut call = LaneCall {
            lane: self.clone(),
            stage: Stage::Over,
            permit: None,
            deadline,
            within,
            operation: PhantomData,
        };
        let frame = match Outgoing::request(operation, body) {
            Ok(frame) => frame.deadline_ms(u32::try_from(within.as_millis()).unwrap_or(u32::MAX)),
            Err(error) => {
                call.stage = Stage::Failed(error.into());
                return call;
            }
        };
        let room = self.0.shared.room.clone();
        let cost = cost(&frame);
        match room.clone().try_acquire_many_owned(cost) {
            Ok(permit) => call.enqueue(frame, permit),
            Err(_) => {
                let turn = Box::pin(async move {
                    let turn = room.acquire_many_owned(cost);
                    timeout_at(deadline, turn).await.ok()?.ok()
                });
                call.stage = Stage::Waiting(Box::new(frame), turn);
            }
        }
        call
    }
}

/// Permits a frame takes.
pub(crate) fn cost(frame: &Outgoing) -> u32 {
    let unit = limits::LANE_BYTES / limits::LANE_CALLS;
    u32::try_from(1 + frame.wire_len() / unit).unwrap_or(u32::MAX)
}

/// A call on a lane: resolves to the reply and its body.
#[must_use = "a dropped call is cancelled"]
pub struct LaneCall<O> {
    lane: Lane,
    stage: Stage,
    permit: Option<OwnedSemaphorePermit>,
    deadline: Instant,
    within: Duration,
    operation: PhantomData<fn() -> O>,
}

type Turn = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>;

enum Stage {
    /// The lane is full.
    Waiting(Box<Outgoing>, Turn),
    /// Under way, with this correlation id.
    Sent(u64),
    Failed(CallError),
    Over,
}

impl<O> std::fmt::Debug for LaneCall<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaneCall")
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}

impl<O> LaneCall<O> {
    fn enqueue(&mut self, frame: Outgoing, permit: OwnedSemaphorePermit) {
        let mut state = self.lane.0.shared.state();
        if let Some(lost) = &state.ended {
            self.stage = Stage::Failed(CallError::Lost(lost.clone()));
            return;
        }
        let correlation = state.slots.take(self.deadline);
        state.next.push(frame.correlation(correlation));
        state.wake_driver();
        self.permit = Some(permit);
        self.stage = Stage::Sent(correlation);
    }

    /// Takes back what is under way. Its frame may not be written yet, so its permits return later.
    fn give_up(&mut self, correlation: u64) {
        let mut state = self.lane.0.shared.state();
        let answered = state.slots.release(correlation);
        if answered || state.ended.is_some() {
            return;
        }
        let cancel = Cancel { correlation };
        if let Ok(frame) = Outgoing::request(&cancel, Vec::new()) {
            state.next.push(frame.one_way());
        }
        if let Some(permit) = self.permit.take() {
            state.owed += permit.num_permits();
            permit.forget();
        }
        state.wake_driver();
    }
}

impl<O: Operation> Future for LaneCall<O> {
    type Output = Result<(O::Reply, Bytes), CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Waiting(frame, mut turn) => match turn.as_mut().poll(cx) {
                    Poll::Ready(Some(permit)) => self.enqueue(*frame, permit),
                    Poll::Ready(None) => return Poll::Ready(Err(CallError::Deadline(self.within))),
                    Poll::Pending => {
                        self.stage = Stage::Waiting(frame, turn);
                        return Poll::Pending;
                    }
                },
                Stage::Sent(correlation) => {
                    let outcome = self.lane.0.shared.state().slots.poll(correlation, cx);
                    return match outcome {
                        Poll::Ready(Outcome::Reply(frame)) => {
                            self.permit = None;
                            Poll::Ready(decode::<O>(frame))
                        }
                        Poll::Ready(Outcome::Lost(lost)) => Poll::Ready(Err(lost.into())),
                        Poll::Ready(Outcome::Late) => {
                            self.give_up(correlation);
                            Poll::Ready(Err(CallError::Deadline(self.within)))
                        }
                        Poll::Pending => {
                            self.stage = Stage::Sent(correlation);
                            Poll::Pending
                        }
                    };
                }
                Stage::Failed(error) => return Poll::Ready(Err(error)),
                Stage::Over => panic!("a call was polled after its end"),
            }
        }
    }
}

impl<O> Drop for LaneCall<O> {
    fn drop(&mut self) {
        if let Stage::Sent(correlation) = self.stage {
            self.give_up(correlation);
        }
    }
}

/// The task of a lane.
struct Driver {
    shared: Arc<Shared>,
    sender: FrameSender,
    receiver: FrameReceiver,
    writing: Batch,
    /// Permits that return when `writing` is written.
    owed: usize,
    alarm: Option<(Instant, Pin<Box<Sleep>>)>,
    arrived: Vec<Frame>,
    wakers: Vec<Waker>,
}

/// So many turns before other tasks get theirs.
const TURNS: usize = 16;

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Lost> {
        for _ in 0..TURNS {
            let mut moved = match self.receive(cx) {
                Ok(moved) => moved,
                Err(lost) => return Poll::Ready(lost),
            };
            match self.write(cx) {
                Ok(wrote) => moved |= wrote,
                Err(lost) => return Poll::Ready(lost),
            }
            moved |= self.watch_deadlines(cx);
            if !moved {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Completes the calls whose replies have arrived.
    fn receive(&mut self, cx: &mut Context<'_>) -> Result<bool, Lost> {
        let Poll::Ready(first) = self.receiver.poll_receive(cx) else {
            return Ok(false);
        };
        let mut result = first;
        while let Ok(Some(frame)) = result {
            self.arrived.push(frame);
            result = self.receiver.buffered();
            if matches!(result, Ok(None)) {
                self.complete();
                return Ok(true);
            }
        }
        self.complete();
        Err(match result {
            Err(error @ (StreamError::Lost(_) | StreamError::Reset)) => error.into_lost(),
            Err(error) => {
                let text = error.to_string();
                self.receiver.link().close(CloseReason::Protocol, &text);
                error.into_lost()
            }
            Ok(_) => Lost::new(EndedBy::Peer, None, "the stream was ended"),
        })
    }

    fn complete(&mut self) {
        let mut state = self.shared.state();
        for frame in self.arrived.drain(..) {
            self.wakers.extend(state.slots.complete(frame));
        }
        drop(state);
        self.wakers.drain(..).for_each(Waker::wake);
    }

    /// Writes what has been called for.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, Lost> {
        if self.writing.is_empty() {
            let mut state = self.shared.state();
            if state.next.is_empty() {
                if state.unused && state.slots.is_empty() {
                    return Err(Lost::new(EndedBy::Us, Some(CloseReason::Bye), ""));
                }
                state.driver = Some(cx.waker().clone());
                return Ok(false);
            }
            std::mem::swap(&mut state.next, &mut self.writing);
            self.owed = std::mem::take(&mut state.owed);
        }
        match self.sender.poll_write(cx, &mut self.writing) {
            Poll::Ready(Ok(())) => {
                self.shared.room.add_permits(std::mem::take(&mut self.owed));
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(error.into_lost()),
            Poll::Pending => Ok(false),
        }
    }

    /// Ends the calls whose time is over, and sets the alarm for the next.
    fn watch_deadlines(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(earliest) = self.shared.state().slots.earliest() else {
            return false;
        };
        match &mut self.alarm {
            Some((at, _)) if *at <= earliest + DEADLINE_GRAIN => {}
            Some((at, alarm)) => {
                *at = earliest + DEADLINE_GRAIN;
                alarm.as_mut().reset(*at);
            }
            none => {
                let at = earliest + DEADLINE_GRAIN;
                *none = Some((at, Box::pin(sleep_until(at))));
            }
        }
        let Some((_, alarm)) = &mut self.alarm else {
            return false;
        };
        if alarm.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.alarm = None;
        let late = self.shared.state().slots.expire(Instant::now());
        late.into_iter().for_each(Waker::wake);
        true
    }
}
