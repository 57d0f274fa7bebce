//! The name server: which broker serves which topic. It keeps its table in memory, learns it anew
//! from the brokers after a restart, and knows nothing of other name servers: run several, give
//! all their addresses to brokers and clients, and any one of them is enough.

pub mod limits;
mod requests;
mod routes;
mod session;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use quern_protocol::ConfigEntry;
use quern_quic::Listener;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::routes::{ConnectionId, Now, Routes};

/// Says the time: ms since 1970.
pub type WallClock = Box<dyn Fn() -> u64 + Send + Sync>;

/// One name server.
pub struct NameServer {
    name: String,
    wall_clock: WallClock,
    settings: Vec<ConfigEntry>,
    started: Instant,
    routes: Mutex<Routes>,
    /// Rings when silence is to be looked for earlier than it was.
    bell: Notify,
    connections: AtomicU64,
}

impl NameServer {
    /// `wall_clock` is only told to those who greet; the table runs on steady time.
    /// `settings` are what it says when it is asked for them.
    pub fn new(
        name: impl Into<String>,
        wall_clock: WallClock,
        settings: Vec<ConfigEntry>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            wall_clock,
            settings,
            started: Instant::now(),
            routes: Mutex::default(),
            bell: Notify::new(),
            connections: AtomicU64::new(0),
        })
    }

    /// Serves everyone who connects, and forgets silent brokers, until the listener is closed.
    pub async fn serve(self: Arc<Self>, listener: Arc<Listener>) {
        loop {
            tokio::select! {
                connection = listener.accept() => match connection {
                    Some(connection) => {
                        tokio::spawn(session::Session::run(Arc::clone(&self), connection));
                    }
                    None => return,
                },
                () = self.time_to_look() => {
                    for broker in self.routes(|routes, now| routes.expire(now)) {
                        tracing::warn!(%broker, "broker is lost, or silent for {:?}: forgotten", limits::EXPIRY);
                    }
                }
            }
        }
    }

    /// Resolves when silence is to be looked for: never, while nobody can be missed.
    async fn time_to_look(&self) {
        loop {
            let left = self.routes(|routes, now| {
                let at = routes.look_at()?;
                Some(at.saturating_sub(now))
            });
            let rung = self.bell.notified();
            match left {
                None => rung.await,
                Some(left) => match timeout(left, rung).await {
                    Ok(()) => {}
                    Err(_) => return,
                },
            }
        }
    }

    fn look_earlier(&self) {
        self.bell.notify_one();
    }

    fn routes<T>(&self, act: impl FnOnce(&mut Routes, Now) -> T) -> T {
        let mut routes = self
            .routes
            .lock()
            .expect("no code that can panic runs under the routes lock");
        act(&mut routes, self.started.elapsed())
    }

    fn next_connection(&self) -> ConnectionId {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn settings(&self) -> Vec<ConfigEntry> {
        self.settings.clone()
    }

    fn now_ms(&self) -> u64 {
        (self.wall_clock)()
    }
}
