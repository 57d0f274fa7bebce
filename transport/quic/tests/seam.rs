//! The socket seam: everything works over a network that is not the machine's, and a bad one.

mod common;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use common::{Echo, WITHIN, authority, beat};
use quern_protocol::{Hello, Role};
use quern_quic::{Connector, Datagrams, Door, Lane, ListenConfig, Listener, serve};

/// What is on its way to one end.
#[derive(Debug, Default)]
struct Inbox {
    datagrams: VecDeque<(Vec<u8>, SocketAddr)>,
    reader: Option<Waker>,
}

/// One of two ends of a network in memory, which loses, repeats and swaps by seed.
#[derive(Debug)]
struct End {
    address: SocketAddr,
    inbox: Arc<Mutex<Inbox>>,
    other: Arc<Mutex<Inbox>>,
    random: Mutex<fastrand::Rng>,
    /// Of a hundred datagrams, how many are lost, repeated, or overtake the one before.
    harm: u8,
}

fn network(harm: u8, seed: u64) -> (Arc<End>, Arc<End>) {
    let inboxes: [Arc<Mutex<Inbox>>; 2] = Default::default();
    let end = |mine: usize, address: [u8; 4]| {
        Arc::new(End {
            address: SocketAddr::from((address, 4_433)),
            inbox: Arc::clone(&inboxes[mine]),
            other: Arc::clone(&inboxes[1 - mine]),
            random: Mutex::new(fastrand::Rng::with_seed(seed + mine as u64)),
            harm,
        })
    };
    (end(0, [127, 0, 0, 2]), end(1, [127, 0, 0, 1]))
}

impl Datagrams for End {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn try_send(&self, _to: SocketAddr, contents: &[u8]) -> io::Result<()> {
        let mut random = self.random.lock().expect("held shortly");
        let mut happens = || random.u8(0..100) < self.harm;
        let mut inbox = self.other.lock().expect("held shortly");
        if happens() {
            return Ok(());
        }
        let datagram = (contents.to_vec(), self.address);
        if happens() {
            inbox.datagrams.push_back(datagram.clone());
        }
        if happens() {
            inbox.datagrams.push_front(datagram);
        } else {
            inbox.datagrams.push_back(datagram);
        }
        if let Some(reader) = inbox.reader.take() {
            reader.wake();
        }
        Ok(())
    }

    fn poll_room(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut inbox = self.inbox.lock().expect("held shortly");
        let Some((datagram, from)) = inbox.datagrams.pop_front() else {
            inbox.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let len = datagram.len().min(buffer.len());
        buffer[..len].copy_from_slice(&datagram[..len]);
        Poll::Ready(Ok((len, from)))
    }
}

#[tokio::test]
async fn calls_come_back_over_a_network_that_loses_repeats_and_swaps() {
    for (harm, seed) in [(0, 1), (5, 2), (20, 3)] {
        let (ours, theirs) = network(harm, seed);
        let (_dir, ca) = authority();
        let address = theirs.address;
        let identity = ca
            .issue("broker", &address.ip().to_string())
            .expect("a certificate");
        let config = ListenConfig::new(address, identity, ca.trust(), [7; 32]);
        let listener = Listener::bind_on(config, theirs).expect("a listener");
        let served = tokio::spawn(async move {
            let connection = listener.accept().await.expect("one comes");
            serve(connection, Arc::new(Echo::default())).await
        });
        let connector = Connector::new_on(&ca.trust(), None, Door::Client, ours);
        let connector = connector.expect("a connector");
        let connection = connector
            .connect(&address.to_string())
            .await
            .expect("the handshake survives");
        connection
            .hello(&Hello::new(Role::Client))
            .await
            .expect("a greeting");
        let lane = Lane::open(&connection).await.expect("a lane");
        let calls: Vec<_> = (0..300u32)
            .map(|number| {
                let mut bytes = vec![b'e'; 5 + number as usize * 10];
                bytes[1..5].copy_from_slice(&number.to_le_bytes());
                (
                    bytes.clone(),
                    lane.call(&beat(), vec![bytes.into()], WITHIN),
                )
            })
            .collect();
        for (sent, call) in calls {
            let (_, received) = call.await.expect("an answer");
            assert_eq!(received, sent, "harm {harm}");
        }
        drop((lane, connection, connector));
        served.abort();
    }
}
