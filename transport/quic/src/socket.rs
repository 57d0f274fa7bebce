//! The datagram socket under an endpoint: the seam where a simulated network takes its place.
//!
//! A segmented send stays within one IPv4 datagram (a larger one is refused by the kernel, which
//! QUIC would take for a path of small packets), and buffers are large enough for a burst.

use std::fmt::Debug;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits;

/// What a network does for an endpoint: the machine's by default, or a simulated one. It may lose,
/// repeat and reorder, as the real one does.
pub trait Datagrams: Debug + Send + Sync + 'static {
    fn local_addr(&self) -> io::Result<SocketAddr>;
    /// Sends one datagram; `WouldBlock` when there is no room, and [`Datagrams::poll_room`] tells when.
    fn try_send(&self, to: SocketAddr, contents: &[u8]) -> io::Result<()>;
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// The next datagram: its length, and who sent it.
    fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>>;
}

/// A network of somebody else's, as QUIC wants it.
#[derive(Debug)]
pub(crate) struct Replaced(pub(crate) Arc<dyn Datagrams>);

#[derive(Debug)]
struct Room(Arc<dyn Datagrams>);

impl UdpPoller for Room {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_room(cx)
    }
}

impl AsyncUdpSocket for Replaced {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room(Arc::clone(&self.0)))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len());
        transmit
            .contents
            .chunks(segment.max(1))
            .try_for_each(|contents| self.0.try_send(transmit.destination, contents))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (Some(buffer), Some(meta)) = (bufs.first_mut(), meta.first_mut()) else {
            return Poll::Ready(Ok(0));
        };
        let (len, addr) = ready!(self.0.poll_receive(cx, buffer))?;
        *meta = RecvMeta {
            addr,
            len,
            stride: len,
            ..RecvMeta::default()
        };
        Poll::Ready(Ok(1))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// Wraps the runtime's socket and caps what one system call carries.
#[derive(Debug)]
struct Capped {
    inner: Arc<dyn AsyncUdpSocket>,
    /// Largest payload a datagram of this socket may have.
    mtu: usize,
}

impl AsyncUdpSocket for Capped {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(segment) = transmit.segment_size else {
            return self.inner.try_send(transmit);
        };
        // A repeat after WouldBlock in the middle sends a datagram twice, which QUIC expects.
        let most = (limits::DATAGRAM / segment).max(1) * segment;
        for contents in transmit.contents.chunks(most) {
            self.inner.try_send(&Transmit {
                destination: transmit.destination,
                ecn: transmit.ecn,
                contents,
                segment_size: (contents.len() > segment).then_some(segment),
                src_ip: transmit.src_ip,
            })?;
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner
            .max_transmit_segments()
            .min((limits::DATAGRAM / self.mtu).max(1))
    }

    fn max_receive_segments(&self) -> usize {
        // Rounded up: the kernel joins what arrives up to a whole datagram.
        self.inner
            .max_receive_segments()
            .min(limits::DATAGRAM.div_ceil(self.mtu))
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// Binds a socket and dresses it for an endpoint whose datagrams are at most `mtu` bytes.
pub(crate) fn bind(address: SocketAddr, mtu: u16) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    enlarge(&socket);
    socket.bind(&address.into())?;
    let inner = TokioRuntime.wrap_udp_socket(socket.into())?;
    Ok(Arc::new(Capped {
        inner,
        mtu: usize::from(mtu),
    }))
}

/// A socket for outgoing connections: both address families where the machine has both.
pub(crate) fn bind_any(mtu: u16) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    bind((Ipv6Addr::UNSPECIFIED, 0).into(), mtu)
        .or_else(|_| bind((Ipv4Addr::UNSPECIFIED, 0).into(), mtu))
}

/// The address of this machine from which the system would send to another; nothing is sent.
pub(crate) fn way_to(peer: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let probe = UdpSocket::bind((any, 0)).ok()?;
    probe.connect(peer).ok()?;
    Some(probe.local_addr().ok()?.ip().to_canonical())
}

fn enlarge(socket: &Socket) {
    static WARNED: Once = Once::new();
    // What the kernel grants is read back; a refusal shows there.
    let _ = socket.set_recv_buffer_size(limits::SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(limits::SOCKET_BUFFER);
    let granted = socket.recv_buffer_size().unwrap_or(0);
    if granted < limits::SOCKET_BUFFER {
        WARNED.call_once(|| {
            tracing::warn!(
                "udp receive buffer is {} KiB, wanted {} KiB: bursts may be dropped and resent \
                 (slower, nothing is lost); fix: sysctl -w net.core.rmem_max=8388608 \
                 net.core.wmem_max=8388608",
                granted / 1024,
                limits::SOCKET_BUFFER / 1024,
            );
        });
    }
}
