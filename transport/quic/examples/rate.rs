//! How much of raw QUIC is left: a framed stream by hand against a [`Lane`] and [`serve`], on
//! loopback, in turns, with medians of the ratios.
//!
//! `cargo run --release -p quern-quic --example rate [SECONDS_A_ROUND]`
//!
//! Small: 128 status-like frames in flight. Batches: 64 messages of 1 KiB a frame, 8 in flight.
//! The raw side uses the same windows, datagrams, framing and batching of writes, and nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quern_protocol::frame::{Frame, Outgoing};
use quern_protocol::{Heartbeat, HeartbeatReply, Hello, HelloReply, Kind, Role};
use quern_quic::{
    Connection, Connector, DevAuthority, Door, Handler, Lane, ListenConfig, Listener, serve,
};

struct Answer;

impl Handler for Answer {
    async fn handle(&self, frame: Frame) -> Outgoing {
        if frame.kind == Kind::Hello as u16 {
            let reply = HelloReply {
                role: Role::Broker,
                software: String::new(),
                minor: 0,
                features: 0,
                node: String::new(),
                time_ms: 0,
            };
            return Outgoing::reply::<Hello>(&reply, Vec::new()).expect("small");
        }
        let reply = HeartbeatReply {
            registered: true,
            time_ms: frame.body.len() as u64,
        };
        Outgoing::reply::<Heartbeat>(&reply, Vec::new()).expect("small")
    }

    async fn ready(&self) {}
}

/// What travels: so many bytes of body in a frame, so many frames in flight.
#[derive(Clone, Copy)]
struct Load {
    body: usize,
    in_flight: usize,
}

const FRAME: usize = 24;

/// Answers frames by hand: a frame of the same correlation for each, gathered into one write.
async fn raw_server(connection: quinn::Connection) {
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        tokio::spawn(async move {
            let mut buffer = BytesMut::new();
            let mut replies = BytesMut::new();
            let mut chunks = [const { Bytes::new() }; 32];
            while let Ok(Some(count)) = receive.read_chunks(&mut chunks).await {
                for chunk in &chunks[..count] {
                    buffer.extend_from_slice(chunk);
                }
                while let Some(length) = whole(&buffer) {
                    let frame = buffer.split_to(length);
                    replies.extend_from_slice(&28u32.to_le_bytes());
                    replies.extend_from_slice(&frame[4..FRAME]);
                    replies.extend_from_slice(&[0; 8]);
                }
                if send.write_chunk(replies.split().freeze()).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn whole(buffer: &[u8]) -> Option<usize> {
    let length = 4 + u32::from_le_bytes(*buffer.first_chunk()?) as usize;
    (buffer.len() >= length).then_some(length)
}

/// Frames answered in a second, by hand: a new frame for each reply, gathered into one write.
async fn raw_client(connection: &quinn::Connection, load: Load, lasting: Duration) -> f64 {
    let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
    let body = vec![7u8; load.body];
    let put = |out: &mut BytesMut, correlation: u64| {
        out.extend_from_slice(&((FRAME - 4 + 2 + body.len()) as u32).to_le_bytes());
        out.extend_from_slice(&[2, 0, 1, 0]);
        out.extend_from_slice(&correlation.to_le_bytes());
        out.extend_from_slice(&[0; 10]);
        out.extend_from_slice(&body);
    };
    let start = Instant::now();
    let mut done = 0u64;
    let mut out = BytesMut::new();
    let mut buffer = BytesMut::new();
    let mut chunks = [const { Bytes::new() }; 32];
    for number in 0..load.in_flight {
        put(&mut out, number as u64);
    }
    while start.elapsed() < lasting {
        send.write_chunk(out.split().freeze())
            .await
            .expect("written");
        let count = receive
            .read_chunks(&mut chunks)
            .await
            .expect("read")
            .expect("open");
        for chunk in &chunks[..count] {
            buffer.extend_from_slice(chunk);
        }
        while let Some(length) = whole(&buffer) {
            drop(buffer.split_to(length));
            done += 1;
            put(&mut out, done);
        }
    }
    done as f64 / start.elapsed().as_secs_f64()
}

/// The same by a lane.
async fn lane_client(connection: &Connection, load: Load, lasting: Duration) -> f64 {
    let lane = Lane::open(connection).await.expect("a lane");
    let body = Bytes::from(vec![7u8; load.body]);
    let call = || {
        let body = if body.is_empty() {
            Vec::new()
        } else {
            vec![body.clone()]
        };
        lane.call(&Heartbeat { broker: None }, body, Duration::from_secs(10))
    };
    let mut calls: FuturesUnordered<_> = (0..load.in_flight).map(|_| call()).collect();
    let start = Instant::now();
    let mut done = 0u64;
    while start.elapsed() < lasting {
        calls.next().await.expect("in flight").expect("answered");
        done += 1;
        calls.push(call());
        if done.is_multiple_of(64) {
            tokio::task::yield_now().await;
        }
    }
    while calls.next().await.is_some() {}
    done as f64 / start.elapsed().as_secs_f64()
}

fn main() {
    let seconds: f64 = std::env::args()
        .nth(1)
        .map_or(1.0, |text| text.parse().expect("seconds"));
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        // On a worker, where an application's calls come from.
        .block_on(async { tokio::spawn(run(Duration::from_secs_f64(seconds))).await })
        .expect("it ran");
}

async fn run(lasting: Duration) {
    let dir = std::env::temp_dir().join(format!("quern-rate-{}", std::process::id()));
    let ca = DevAuthority::open_in(&dir).expect("an authority");
    let listen = || {
        let identity = ca.issue("broker", "rate").expect("a certificate");
        let config = ListenConfig::new(([127, 0, 0, 1], 0).into(), identity, ca.trust(), [1; 32]);
        Listener::bind(config).expect("a port")
    };
    let connector = Connector::new(ca.trust(), None, Door::Client).expect("a socket");

    let listener = listen();
    let address = listener.local_addr().to_string();
    tokio::spawn(async move {
        while let Some(connection) = listener.accept().await {
            tokio::spawn(serve(connection, Arc::new(Answer)));
        }
    });
    let connection = connector.connect(&address).await.expect("a connection");
    connection
        .hello(&Hello::new(Role::Client))
        .await
        .expect("a hello");

    // The raw side: the same endpoints and settings, with the streams in our hands.
    let listener = listen();
    let address = listener.local_addr().to_string();
    tokio::spawn(async move {
        while let Some(connection) = listener.accept().await {
            tokio::spawn(raw_server(connection.widened()));
        }
    });
    let raw = connector
        .connect(&address)
        .await
        .expect("a connection")
        .widened();

    compare(&raw, &connection, lasting).await;
    std::fs::remove_dir_all(dir).expect("removed");
}

async fn compare(raw: &quinn::Connection, connection: &Connection, lasting: Duration) {
    let loads = [
        (
            "small frames, 128 in flight",
            Load {
                body: 0,
                in_flight: 128,
            },
            1.0,
        ),
        (
            "64 x 1 KiB, 8 in flight",
            Load {
                body: 64 * 1024,
                in_flight: 8,
            },
            64.0,
        ),
        (
            "1 KiB frames, 256 in flight",
            Load {
                body: 1024,
                in_flight: 256,
            },
            1.0,
        ),
    ];
    for (name, load, each) in loads {
        let mut ratios = Vec::new();
        for _ in 0..5 {
            let by_hand = raw_client(raw, load, lasting).await * each;
            let by_lane = lane_client(connection, load, lasting).await * each;
            println!(
                "{name}: raw {by_hand:>9.0}/s  lane {by_lane:>9.0}/s  {:.2}",
                by_lane / by_hand
            );
            ratios.push(by_lane / by_hand);
        }
        ratios.sort_by(f64::total_cmp);
        println!("{name}: median of ratios {:.2}", ratios[2]);
    }
}
