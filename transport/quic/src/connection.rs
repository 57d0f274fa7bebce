//! A connection: opens and accepts framed streams, says hello, makes single calls, and ends with a
//! reason. A cheap handle; when the last one and the last stream are gone, the connection closes.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use quern_protocol::frame::{Frame, Outgoing};
use quern_protocol::operation::decode_reply;
use quern_protocol::{Hello, HelloReply, Operation};
use quinn::VarInt;
use tokio::sync::Semaphore;

use crate::config::Door;
use crate::connector::Alert;
use crate::error::{CallError, CloseReason, EndedBy, Lost, StreamError};
use crate::lane::Lane;
use crate::limits;
use crate::socket;
use crate::stream::{FrameReceiver, FrameSender};

/// A connection to another process.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    link: Arc<Link>,
    door: Door,
    first_frame: Duration,
    calls: Semaphore,
    session: OnceLock<Lane>,
}

/// How a connection came to be.
#[derive(Debug)]
pub(crate) enum Origin {
    Made,
    Accepted {
        first_frame: Duration,
        closing: Arc<OnceLock<CloseReason>>,
    },
}

impl Connection {
    pub(crate) fn new(quinn: quinn::Connection, door: Door, origin: Origin) -> Self {
        let (first_frame, listener) = match origin {
            Origin::Made => (limits::FIRST_FRAME_WAIT, None),
            Origin::Accepted {
                first_frame,
                closing,
            } => (first_frame, Some(closing)),
        };
        if door == Door::Peer {
            quinn.set_receive_window(limits::PEER_WINDOW.into());
            quinn.set_send_window(limits::PEER_WINDOW.into());
        }
        Self(Arc::new(Inner {
            link: Arc::new(Link {
                quinn,
                windows: Windows::new(door, listener.is_some()),
                here: OnceLock::new(),
                listener,
            }),
            door,
            first_frame,
            calls: Semaphore::new(limits::CALLS),
            session: OnceLock::new(),
        }))
    }

    /// Whether both are handles of one connection.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub fn door(&self) -> Door {
        self.0.door
    }

    pub fn remote_addr(&self) -> SocketAddr {
        let address = self.0.link.quinn.remote_address();
        SocketAddr::new(address.ip().to_canonical(), address.port())
    }

    /// The address of this machine that the peer is reached from, where the system tells it.
    pub fn local_ip(&self) -> Option<IpAddr> {
        socket::way_to(self.remote_addr())
    }

    /// The round-trip time as QUIC measures it now.
    pub fn rtt(&self) -> Duration {
        self.0.link.quinn.rtt()
    }

    /// Opens a long stream; waits while the other side allows no more. It has a window of its own,
    /// so that what is not read on it holds up nothing else.
    pub async fn open(&self) -> Result<(FrameSender, FrameReceiver), Lost> {
        let share = self.0.link.widen().map_err(|error| {
            Lost::new(EndedBy::Us, Some(CloseReason::Limit), &error.to_string())
        })?;
        let (sender, mut receiver) = self.open_short().await?;
        receiver.keep(share);
        Ok((sender, receiver))
    }

    /// The same for a stream that carries little and is always read.
    pub(crate) async fn open_short(&self) -> Result<(FrameSender, FrameReceiver), Lost> {
        let streams = self.0.link.quinn.open_bi().await;
        self.framed(streams)
    }

    /// The next stream the other side opens.
    pub async fn accept(&self) -> Result<(FrameSender, FrameReceiver), Lost> {
        let streams = self.0.link.quinn.accept_bi().await;
        self.framed(streams)
    }

    fn framed(
        &self,
        streams: Result<(quinn::SendStream, quinn::RecvStream), quinn::ConnectionError>,
    ) -> Result<(FrameSender, FrameReceiver), Lost> {
        let link = &self.0.link;
        let (send, receive) = streams.map_err(|error| link.lost(error))?;
        Ok((
            FrameSender::new(send, link.clone()),
            FrameReceiver::new(receive, link.clone()),
        ))
    }

    /// Ends the connection at once and tells the other side why.
    pub fn close(&self, reason: CloseReason, text: &str) {
        self.0.link.close(reason, text);
    }

    /// Waits until the connection has ended.
    pub async fn closed(&self) -> Lost {
        let error = self.0.link.quinn.closed().await;
        self.0.link.lost(error)
    }

    pub fn is_closed(&self) -> bool {
        self.0.link.quinn.close_reason().is_some()
    }

    /// Says hello: the first frame of the first stream, which stays open as the session.
    pub async fn hello(&self, hello: &Hello) -> Result<HelloReply, CallError> {
        let lane = Lane::session(self).await?;
        let (reply, _) = lane
            .call(hello, Vec::new(), limits::FIRST_FRAME_WAIT)
            .await?;
        // A second hello keeps the first session.
        let _ = self.0.session.set(lane);
        Ok(reply)
    }

    /// The session's stream, once hello was said.
    pub fn session(&self) -> Option<Lane> {
        self.0.session.get().cloned()
    }

    /// One request on a stream of its own. When the future is dropped, so is the request.
    pub async fn call<O: Operation + Sync>(
        &self,
        operation: &O,
        body: Vec<Bytes>,
        within: Duration,
    ) -> Result<(O::Reply, Bytes), CallError> {
        let deadline_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
        let frame = Outgoing::request(operation, body)?.deadline_ms(deadline_ms);
        tokio::time::timeout(within, self.ask::<O>(frame))
            .await
            .unwrap_or(Err(CallError::Deadline(within)))
    }

    async fn ask<O: Operation>(&self, frame: Outgoing) -> Result<(O::Reply, Bytes), CallError> {
        let _one_of_few = self.0.calls.acquire().await.expect("never closed");
        let (mut sender, mut receiver) = self.open_short().await?;
        // A stream whose other half refuses still brings the answer that says why.
        match sender.send(frame).await {
            Ok(()) => sender.finish(),
            Err(StreamError::Lost(lost)) => return Err(lost.into()),
            Err(_) => {}
        }
        match receiver.receive().await {
            Ok(Some(frame)) => decode::<O>(frame),
            Ok(None) => Err(Lost::new(EndedBy::Peer, None, "the stream ended unanswered").into()),
            Err(error) => Err(error.into_lost().into()),
        }
    }

    /// QUIC's own handle with a lane's windows, for measuring what our streams cost over it.
    #[doc(hidden)]
    pub fn widened(&self) -> quinn::Connection {
        let quinn = self.0.link.quinn.clone();
        quinn.set_receive_window((limits::FIRST_WINDOW + limits::LANE_WINDOW).into());
        quinn.set_send_window(limits::SEND_WINDOW);
        quinn
    }

    pub(crate) fn first_frame(&self) -> Duration {
        self.0.first_frame
    }
}

/// The reply in a frame, or what came instead.
pub(crate) fn decode<O: Operation>(frame: Frame) -> Result<(O::Reply, Bytes), CallError> {
    match decode_reply::<O>(&frame) {
        Ok(reply) => Ok((reply, frame.body)),
        Err(error) if frame.flags.is_error() => Err(CallError::Remote(error)),
        Err(error) => Err(CallError::Reply(error.message)),
    }
}

/// What a connection's handles and streams share: QUIC's own handle, its windows, and why this
/// side closed it. Streams hold it instead of the connection, which may itself hold a lane.
#[derive(Debug)]
pub(crate) struct Link {
    quinn: quinn::Connection,
    windows: Windows,
    here: OnceLock<(CloseReason, Arc<str>)>,
    listener: Option<Arc<OnceLock<CloseReason>>>,
}

impl Link {
    pub(crate) fn close(&self, reason: CloseReason, text: &str) {
        // The first reason is the one that counts.
        let _ = self.here.set((reason, text.into()));
        let number = VarInt::from_u32(reason.number());
        self.quinn.close(number, text.as_bytes());
    }

    pub(crate) fn lost(&self, error: quinn::ConnectionError) -> Lost {
        use quinn::ConnectionError as E;
        match error {
            E::ApplicationClosed(close) => {
                let number = close.error_code.into_inner();
                let said = String::from_utf8_lossy(&close.reason);
                match CloseReason::from_number(number) {
                    Some(reason) => Lost::new(EndedBy::Peer, Some(reason), &said),
                    None => Lost::new(EndedBy::Peer, None, &format!("close code {number}: {said}")),
                }
            }
            E::LocallyClosed => match (self.here.get(), self.listener.as_deref()) {
                (Some((reason, text)), _) => Lost::new(EndedBy::Us, Some(*reason), text),
                (None, Some(listener)) => Lost::new(EndedBy::Us, listener.get().copied(), ""),
                (None, None) => Lost::new(EndedBy::Us, Some(CloseReason::Bye), ""),
            },
            E::Reset => Lost::new(
                EndedBy::Network,
                None,
                "the other side forgot this connection: it was restarted",
            ),
            E::TimedOut => Lost::new(EndedBy::Network, None, "nothing was heard any more"),
            // A refused certificate of the connecting side is told after its handshake.
            E::ConnectionClosed(_) if Alert::of(&error).is_some() => {
                let hint = Alert::of(&error).map_or("", Alert::hint);
                let text = format!("the certificate shown is refused: {error}{hint}");
                Lost::new(EndedBy::Peer, Some(CloseReason::Identity), &text)
            }
            other => Lost::new(EndedBy::Network, None, &other.to_string()),
        }
    }

    /// Lets as much be under way to the other side as to one that has a lane.
    pub(crate) fn widen_way_out(&self) {
        if !self.windows.fixed {
            self.quinn.set_send_window(limits::SEND_WINDOW);
        }
    }

    /// Makes room for one more lane. `Err` when the process has none left to give.
    pub(crate) fn widen(self: &Arc<Self>) -> Result<LaneWindow, PoolEmpty> {
        self.windows.open(&self.quinn)?;
        Ok(LaneWindow(self.clone()))
    }
}

/// Every lane of the process together may not widen windows any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node has no window left for another lane")]
pub(crate) struct PoolEmpty;

/// One lane's share of its connection's window, while it is open.
#[derive(Debug)]
pub(crate) struct LaneWindow(Arc<Link>);

impl Drop for LaneWindow {
    fn drop(&mut self) {
        self.0.windows.close();
    }
}

/// How far a connection's windows are open. They only grow: a lowered one would shrink no faster
/// than data is read, so what was charged to the pool comes back when the connection is gone.
#[derive(Debug)]
struct Windows {
    fixed: bool,
    pooled: bool,
    lanes: Mutex<Lanes>,
}

#[derive(Debug, Default)]
struct Lanes {
    open: u32,
    granted: u32,
}

/// Lanes the process may still widen windows for.
static POOL: AtomicU32 = AtomicU32::new((limits::WINDOW_POOL / limits::LANE_WINDOW as u64) as u32);

impl Windows {
    fn new(door: Door, pooled: bool) -> Self {
        Self {
            fixed: door == Door::Peer,
            pooled,
            lanes: Mutex::default(),
        }
    }

    fn open(&self, quinn: &quinn::Connection) -> Result<(), PoolEmpty> {
        let mut lanes = self.lanes();
        if !self.fixed && lanes.open == lanes.granted {
            if self.pooled {
                POOL.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                })
                .map_err(|_| PoolEmpty)?;
            }
            lanes.granted += 1;
            let window = limits::FIRST_WINDOW + lanes.granted * limits::LANE_WINDOW;
            quinn.set_receive_window(window.into());
            quinn.set_send_window(limits::SEND_WINDOW);
        }
        lanes.open += 1;
        Ok(())
    }

    fn close(&self) {
        self.lanes().open -= 1;
    }

    fn lanes(&self) -> std::sync::MutexGuard<'_, Lanes> {
        self.lanes.lock().expect("no one panics holding it")
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        if self.pooled {
            POOL.fetch_add(self.lanes().granted, Ordering::Relaxed);
        }
    }
}
