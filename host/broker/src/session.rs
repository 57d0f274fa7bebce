//! One connected peer: its greeting, and the way of its frames to the table of requests.

use std::sync::Arc;

use quern_protocol::frame::{Frame, Outgoing};
use quern_protocol::{HeartbeatReply, Hello, HelloReply, Role, WireError};
use quern_quic::{Answers, Connection, Credit, Handler};

use crate::{Broker, requests, subscribe};

/// What a connection's streams are served by.
#[derive(Debug)]
pub(crate) struct Session {
    broker: Arc<Broker>,
}

impl Session {
    /// Serves a connection until it ends.
    pub(crate) async fn run(broker: Arc<Broker>, connection: Connection) {
        let peer = connection.remote_addr();
        let _counted = broker.count_connection();
        let session = Arc::new(Self {
            broker: Arc::clone(&broker),
        });
        let end = quern_quic::serve(connection, session).await;
        tracing::debug!(%peer, %end, "connection ended");
    }
}

impl Handler for Session {
    async fn handle(&self, frame: Frame) -> Outgoing {
        let _under_way = self.broker.count_request();
        requests::handle(&self.broker, frame).await
    }

    fn subscribe(&self, frame: Frame, credit: Arc<Credit>) -> Answers {
        subscribe::subscribe(&self.broker, &frame, credit)
    }

    /// The log's queue is full: read no more frames until it has room.
    async fn ready(&self) {
        self.broker.store.ready().await;
    }
}

pub(crate) fn hello(broker: &Broker, hello: &Hello) -> Result<HelloReply, WireError> {
    let name = broker.config.name.as_str();
    hello.answer(Role::Broker, name, broker.store.now_ms())
}

/// A broker registers with name servers, never with another broker.
pub(crate) fn heartbeat(broker: &Broker) -> HeartbeatReply {
    HeartbeatReply {
        registered: false,
        time_ms: broker.store.now_ms(),
    }
}
