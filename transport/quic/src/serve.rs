//! The answering side: one loop for every stream of a connection, whatever travels on it.
//!
//! Handlers of a stream are first polled in the order their frames arrived; replies leave in the
//! order they are ready, many to a write. A stream that is not read by its peer, or whose handler
//! is not ready, stops being read here, and nothing else does.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quern_protocol::frame::{Frame, Outgoing};
use quern_protocol::{Code, Kind, Request, WireError};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};

use crate::batch::Batch;
use crate::connection::Connection;
use crate::credit::{Answers, Credit};
use crate::error::{CloseReason, Lost, StreamError};
use crate::limits;
use crate::serve_many::Subscriptions;
use crate::stream::{FrameReceiver, FrameSender};

/// What answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. The reply needs no correlation. Dropped when the request is cancelled.
    fn handle(&self, frame: Frame) -> impl Future<Output = Outgoing> + Send;

    /// Resolves when another request may be read.
    fn ready(&self) -> impl Future<Output = ()> + Send;

    /// Answers a request to subscribe, for as long as there is credit. Dropped when the request is cancelled.
    fn subscribe(&self, frame: Frame, credit: Arc<Credit>) -> Answers {
        let _ = credit;
        let text = "there is nothing to subscribe to here";
        let refused = Outgoing::error(frame.kind, &WireError::new(Code::UNSUPPORTED, text));
        Box::pin(futures_util::stream::once(async { refused }))
    }
}

/// Serves a connection until it ends. Its first frame must be a hello.
pub async fn serve<H: Handler>(connection: Connection, handler: Arc<H>) -> Lost {
    let session = match timeout(connection.first_frame(), greeting(&connection)).await {
        Ok(Ok(session)) => session,
        Ok(Err(lost)) => return lost,
        Err(_) => {
            let waited = connection.first_frame().as_millis();
            let text = format!("no hello within {waited} ms");
            connection.close(CloseReason::NoFirstFrame, &text);
            return connection.closed().await;
        }
    };
    let mut streams = JoinSet::new();
    streams.spawn(session.run(handler.clone()));
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Ok((sender, receiver)) => {
                    let stream = Stream::new(sender, receiver);
                    streams.spawn(stream.run(handler.clone()));
                }
                Err(lost) => return lost,
            },
            Some(ended) = streams.join_next() => {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    tracing::error!(remote = %connection.remote_addr(), "a request's handler panicked");
                }
            }
        }
    }
}

/// Waits for the session's stream and its hello.
async fn greeting(connection: &Connection) -> Result<Stream, Lost> {
    let (sender, mut receiver) = connection.accept().await?;
    let first = receiver.receive().await;
    let mut stream = Stream::new(sender, receiver);
    let refusal = match first {
        Ok(Some(frame)) if frame.kind == Kind::Hello as u16 && !frame.is_reply => {
            stream.is_session = true;
            stream.first = Some(frame);
            return Ok(stream);
        }
        Ok(Some(frame)) => {
            let text = format!("the first frame is of kind {}, not a hello", frame.kind);
            WireError::new(Code::PROTOCOL, text)
        }
        Ok(None) => WireError::new(Code::PROTOCOL, "the first stream brought no hello"),
        Err(StreamError::Lost(lost)) => return Err(lost),
        Err(error) => WireError::new(error.code(), error.to_string()),
    };
    stream.refuse(&refusal).await;
    Err(connection.closed().await)
}

/// One stream being served.
struct Stream {
    sender: FrameSender,
    receiver: FrameReceiver,
    first: Option<Frame>,
    is_session: bool,
}

/// How serving a stream ended.
enum End {
    /// Everything asked is answered.
    Finished,
    /// The other side wants no more, or the connection is gone.
    Gone,
    /// What arrived is no frame.
    Refused(StreamError),
}

impl Stream {
    fn new(sender: FrameSender, receiver: FrameReceiver) -> Self {
        Self {
            sender,
            receiver,
            first: None,
            is_session: false,
        }
    }

    async fn run<H: Handler>(mut self, handler: Arc<H>) {
        let stopped = self.sender.stopped();
        let end = {
            let mut stopped = pin!(stopped);
            let mut exchange = Exchange::new(&mut self, &*handler);
            std::future::poll_fn(|cx| {
                if stopped.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(End::Gone);
                }
                exchange.poll(cx)
            })
            .await
        };
        match end {
            End::Finished => self.sender.finish(),
            End::Gone => {}
            End::Refused(error) => {
                let error = WireError::new(error.code(), error.to_string());
                self.refuse(&error).await;
            }
        }
    }

    /// Says what is wrong on the stream, then closes the connection: past a bad frame, nothing on
    /// the stream can be understood, and the other side is not what it should be.
    async fn refuse(mut self, error: &WireError) {
        let link = self.receiver.link().clone();
        let words = async {
            if self.sender.send(Outgoing::error(0, error)).await.is_ok() {
                self.sender.finish();
                self.sender.stopped().await;
            }
        };
        // Unheard last words are no reason to wait longer.
        let _ = timeout(limits::LAST_WORDS_WAIT, words).await;
        link.close(CloseReason::Protocol, &error.message);
    }
}

/// Requests and replies of one stream, in flight.
struct Exchange<'a, H, W> {
    handler: &'a H,
    start: fn(&'a H, Frame) -> Pin<Box<W>>,
    sender: &'a mut FrameSender,
    receiver: &'a mut FrameReceiver,
    queued: VecDeque<Frame>,
    running: FuturesUnordered<Running<W>>,
    subscriptions: Subscriptions,
    batch: Batch,
    /// The handler's leave to read on, while it is being waited for.
    leave: Option<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>,
    /// Of the session's few small frames no window is needed.
    is_session: bool,
    at_end: bool,
}

/// So many turns of the loop before other tasks get theirs.
const TURNS: usize = 16;

impl<'a, H: Handler> Exchange<'a, H, ()> {
    fn new(
        stream: &'a mut Stream,
        handler: &'a H,
    ) -> Exchange<'a, H, impl Future<Output = Outgoing> + Send + 'a> {
        Exchange {
            handler,
            start: |handler, frame| Box::pin(handler.handle(frame)),
            sender: &mut stream.sender,
            receiver: &mut stream.receiver,
            queued: stream.first.take().into_iter().collect(),
            running: FuturesUnordered::new(),
            subscriptions: Subscriptions::default(),
            batch: Batch::new(),
            leave: None,
            is_session: stream.is_session,
            at_end: false,
        }
    }
}

impl<'a, H: Handler, W: Future<Output = Outgoing> + Send + 'a> Exchange<'a, H, W> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        for _ in 0..TURNS {
            let mut moved = match self.take_requests(cx) {
                Ok(moved) => moved,
                Err(StreamError::Lost(_) | StreamError::Reset) => return Poll::Ready(End::Gone),
                Err(error) => return Poll::Ready(End::Refused(error)),
            };
            moved |= self.gather_replies(cx);
            if !self.batch.is_empty() {
                match self.sender.poll_write(cx, &mut self.batch) {
                    Poll::Ready(Ok(())) => moved = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(End::Gone),
                    Poll::Pending => {}
                }
            }
            if self.at_end && self.running.is_empty() && self.batch.is_empty() {
                return Poll::Ready(End::Finished);
            }
            if !moved {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Starts what has arrived, as far as there is room and leave.
    fn take_requests(&mut self, cx: &mut Context<'_>) -> Result<bool, StreamError> {
        let mut moved = false;
        while !self.at_end
            && self.running.len() < limits::STREAM_REQUESTS
            && !self.batch.is_full()
            && self.may_read(cx)
        {
            let frame = match self.queued.pop_front() {
                Some(frame) => frame,
                None => match self.receiver.poll_receive(cx) {
                    Poll::Ready(Ok(Some(frame))) => frame,
                    Poll::Ready(Ok(None)) => {
                        self.at_end = true;
                        // No more will be granted.
                        self.subscriptions = Subscriptions::default();
                        return Ok(true);
                    }
                    Poll::Ready(Err(error)) => return Err(error),
                    Poll::Pending => break,
                },
            };
            moved = true;
            self.begin(frame);
        }
        Ok(moved)
    }

    fn may_read(&mut self, cx: &mut Context<'_>) -> bool {
        if self.leave.is_none() {
            let mut idle = Context::from_waker(Waker::noop());
            if pin!(self.handler.ready()).poll(&mut idle).is_ready() {
                return true;
            }
        }
        let handler = self.handler;
        let leave = self.leave.get_or_insert_with(|| Box::pin(handler.ready()));
        let ready = leave.as_mut().poll(cx).is_ready();
        if ready {
            self.leave = None;
        }
        ready
    }

    fn begin(&mut self, frame: Frame) {
        let ask = Ask {
            kind: frame.kind,
            correlation: frame.correlation,
            one_way: frame.flags.is_one_way(),
            deadline_ms: frame.deadline_ms,
        };
        const TO_THE_STREAM: [u16; 2] = [Kind::Cancel as u16, Kind::Credit as u16];
        if TO_THE_STREAM.contains(&frame.kind) {
            match Request::decode(&frame) {
                Ok(Request::Cancel(cancel)) => self.cancel(cancel.correlation),
                Ok(Request::Credit(credit)) => self.subscriptions.grant(&credit),
                Ok(_) => {}
                Err(error) => self.reply(ask, Outgoing::error(frame.kind, &error)),
            }
            return;
        }
        if frame.kind == Kind::Subscribe as u16 {
            match self.subscriptions.room_for(frame.correlation) {
                Ok(credit) => {
                    // What comes on such a stream is small, and needs no share of the windows.
                    self.receiver.link().widen_way_out();
                    let answers = self.handler.subscribe(frame, Arc::clone(&credit));
                    self.subscriptions.begin(ask.correlation, credit, answers);
                }
                Err(error) => self.reply(ask, Outgoing::error(frame.kind, &error)),
            }
            return;
        }
        if let Err(error) = self.claim_window(frame.correlation) {
            return self.reply(ask, Outgoing::error(frame.kind, &error));
        }
        let mut work = (self.start)(self.handler, frame);
        // Most requests are answered at once; only the others need a place among the running.
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(reply) => self.reply(ask, reply),
            Poll::Pending => self.running.push(Running::new(ask, work)),
        }
    }

    /// A stream with correlation ids is a lane, and gets a share of the window as one.
    fn claim_window(&mut self, correlation: u64) -> Result<(), WireError> {
        if correlation != 0 && !self.is_session && !self.receiver.has_share() {
            let share = self
                .receiver
                .link()
                .widen()
                .map_err(|error| WireError::new(Code::RETRY_AFTER, error.to_string()))?;
            self.receiver.keep(share);
        }
        Ok(())
    }

    fn reply(&mut self, ask: Ask, reply: Outgoing) {
        if !ask.one_way {
            self.batch.push(reply.correlation(ask.correlation));
        }
    }

    fn cancel(&mut self, correlation: u64) {
        for mut running in Pin::new(&mut self.running).iter_pin_mut() {
            if running.ask.correlation == correlation {
                running.as_mut().get_mut().cancel();
            }
        }
        self.subscriptions.cancel(correlation);
    }

    fn gather_replies(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while !self.batch.is_full() {
            let Poll::Ready(Some((ask, reply))) = self.running.poll_next_unpin(cx) else {
                break;
            };
            moved = true;
            if let Some(reply) = reply {
                self.reply(ask, reply);
            }
        }
        while !self.batch.is_full()
            && let Some(answer) = self.subscriptions.poll(cx)
        {
            moved = true;
            self.batch.push(answer);
        }
        moved
    }
}

/// What a reply needs to know of its request.
#[derive(Debug, Clone, Copy)]
struct Ask {
    kind: u16,
    correlation: u64,
    one_way: bool,
    deadline_ms: u32,
}

/// A request whose answer is not there yet.
struct Running<W> {
    ask: Ask,
    /// `None` once cancelled.
    work: Option<Pin<Box<W>>>,
    deadline: Option<Pin<Box<Sleep>>>,
    waker: Option<Waker>,
}

impl<W> Running<W> {
    fn new(ask: Ask, work: Pin<Box<W>>) -> Self {
        let left = Duration::from_millis(ask.deadline_ms.into());
        Self {
            ask,
            work: Some(work),
            deadline: (ask.deadline_ms > 0).then(|| Box::pin(sleep(left))),
            waker: None,
        }
    }

    fn cancel(&mut self) {
        self.work = None;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl<W: Future<Output = Outgoing>> Future for Running<W> {
    type Output = (Ask, Option<Outgoing>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ask = self.ask;
        let Some(work) = &mut self.work else {
            return Poll::Ready((ask, None));
        };
        if let Poll::Ready(reply) = work.as_mut().poll(cx) {
            return Poll::Ready((ask, Some(reply)));
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            let text = format!("no answer within the {} ms asked for", ask.deadline_ms);
            let error = WireError::new(Code::DEADLINE, text);
            return Poll::Ready((ask, Some(Outgoing::error(ask.kind, &error))));
        }
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}
