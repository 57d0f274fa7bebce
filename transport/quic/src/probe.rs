//! Raw QUIC as a yardstick: frames made and answered by hand on one stream, with the endpoints,
//! windows and settings everything else uses, and nothing else. Benchmarks hold what they measure
//! against it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quern_protocol::limits::FRAME_PREFIX;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use crate::config::{Door, ListenConfig};
use crate::connector::Connector;
use crate::dev_ca::DevAuthority;
use crate::endpoint::Listener;
use crate::error::{BindError, ConnectError, TlsError};

/// Bytes of an answer after its prefix.
const ANSWER: usize = 8;

/// Why there is no yardstick.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the server's threads did not start: {0}")]
    Threads(#[from] std::io::Error),
    #[error("the raw stream broke: {0}")]
    Stream(String),
}

/// A raw connection over loopback. Its server has threads of its own, as a broker has: on the
/// client's thread an answer would come without waking anyone.
#[derive(Debug)]
pub struct Probe {
    connection: quinn::Connection,
    server: Option<Runtime>,
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown_background();
        }
    }
}

impl Probe {
    /// Connects to a server of its own.
    pub async fn open() -> Result<Self, ProbeError> {
        let authority = DevAuthority::open()?;
        let identity = authority.issue("probe", "probe")?;
        let loopback = ([127, 0, 0, 1], 0).into();
        let secret = identity.secret("probe");
        let config = ListenConfig::new(loopback, identity, authority.trust(), secret);
        let server = Builder::new_multi_thread().enable_all().build()?;
        let listener = {
            let _on_the_server = server.enter();
            Listener::bind(config)?
        };
        let address = listener.local_addr().to_string();
        server.spawn(async move {
            while let Some(connection) = listener.accept().await {
                tokio::spawn(answer(connection.widened()));
            }
        });
        let connector = Connector::new(authority.trust(), None, Door::Client)?;
        let connection = connector.connect(&address).await?.widened();
        Ok(Self {
            connection,
            server: Some(server),
        })
    }

    /// Frames with bodies of this size answered in a second, so many in flight.
    pub async fn rate(
        &self,
        body: usize,
        in_flight: usize,
        lasting: Duration,
    ) -> Result<f64, ProbeError> {
        let began = Instant::now();
        let mut stream = RawStream::open(&self.connection, body).await?;
        let mut done = 0u64;
        let mut due = in_flight;
        while began.elapsed() < lasting {
            due = stream.exchange(due).await?;
            done += due as u64;
        }
        Ok(done as f64 / began.elapsed().as_secs_f64())
    }

    /// How long one frame takes there and back, one after the other.
    pub async fn round_trips(
        &self,
        body: usize,
        lasting: Duration,
    ) -> Result<Vec<Duration>, ProbeError> {
        let began = Instant::now();
        let mut stream = RawStream::open(&self.connection, body).await?;
        let mut trips = Vec::new();
        while began.elapsed() < lasting {
            let asked = Instant::now();
            stream.exchange(1).await?;
            trips.push(asked.elapsed());
        }
        Ok(trips)
    }
}

struct RawStream {
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    frame: Vec<u8>,
    received: BytesMut,
}

impl RawStream {
    async fn open(connection: &quinn::Connection, body: usize) -> Result<Self, ProbeError> {
        let opened = connection.open_bi().await;
        let (send, receive) = opened.map_err(|error| ProbeError::Stream(error.to_string()))?;
        let mut frame = vec![0; FRAME_PREFIX + body];
        let len = (FRAME_PREFIX - 4 + body) as u32;
        frame[..4].copy_from_slice(&len.to_le_bytes());
        Ok(Self {
            send,
            receive,
            frame,
            received: BytesMut::new(),
        })
    }

    /// Sends so many frames in one write; returns how many answers the next read brought.
    async fn exchange(&mut self, frames: usize) -> Result<usize, ProbeError> {
        let broken = |error: &dyn std::fmt::Display| ProbeError::Stream(error.to_string());
        let mut out = BytesMut::with_capacity(frames * self.frame.len());
        for _ in 0..frames {
            out.extend_from_slice(&self.frame);
        }
        let written = self.send.write_chunk(out.freeze()).await;
        written.map_err(|error| broken(&error))?;
        loop {
            let mut chunks = [const { Bytes::new() }; 32];
            let read = self.receive.read_chunks(&mut chunks).await;
            let count = read
                .map_err(|error| broken(&error))?
                .ok_or_else(|| broken(&"it ended"))?;
            for chunk in &chunks[..count] {
                self.received.extend_from_slice(chunk);
            }
            let answers = self.received.len() / (FRAME_PREFIX + ANSWER);
            if answers > 0 {
                drop(self.received.split_to(answers * (FRAME_PREFIX + ANSWER)));
                return Ok(answers);
            }
        }
    }
}

/// Answers every frame with a small one, gathered into one write.
async fn answer(connection: quinn::Connection) {
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        tokio::spawn(async move {
            let mut received = BytesMut::new();
            let mut chunks = [const { Bytes::new() }; 32];
            while let Ok(Some(count)) = receive.read_chunks(&mut chunks).await {
                for chunk in &chunks[..count] {
                    received.extend_from_slice(chunk);
                }
                let mut answers = 0;
                while let Some(len) = whole(&received) {
                    drop(received.split_to(len));
                    answers += 1;
                }
                let out = Bytes::from(vec![0; answers * (FRAME_PREFIX + ANSWER)]);
                if send.write_chunk(out).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn whole(received: &BytesMut) -> Option<usize> {
    let len = 4 + u32::from_le_bytes(*received.first_chunk()?) as usize;
    (received.len() >= len).then_some(len)
}
