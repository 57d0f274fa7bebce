//! One connected peer of a name server. Only brokers, who come through the peers' door, may change
//! the table. When a broker closes its connection its registration ends at once; one whose connection is lost may
//! come back for a moment before its routes go.

use std::sync::Arc;

use quern_protocol::frame::{Frame, Outgoing};
use quern_protocol::{
    Code, ConfirmBroker, ConfirmBrokerReply, DescribeConfigReply, Heartbeat, HeartbeatReply, Hello,
    HelloReply, PublishTopics, PublishTopicsReply, RegisterBroker, RegisterBrokerReply, Role,
    WireError,
};
use quern_quic::{CloseReason, Connection, Door, Handler, Lost};

use crate::routes::{ConnectionId, Now, Routes};
use crate::{NameServer, limits, requests};

pub(crate) struct Session {
    server: Arc<NameServer>,
    connection: ConnectionId,
    door: Door,
}

impl Session {
    /// Serves a connection until it ends.
    pub(crate) async fn run(server: Arc<NameServer>, connection: Connection) {
        let session = Arc::new(Self {
            connection: server.next_connection(),
            door: connection.door(),
            server,
        });
        let end = quern_quic::serve(connection, Arc::clone(&session)).await;
        let this = session.connection;
        if is_farewell(&end) {
            if let Some(broker) = session.routes(|routes, _| routes.disconnect(this)) {
                tracing::info!(%broker, "broker disconnected");
            }
        } else if let Some(broker) = session.routes(|routes, now| routes.lose(this, now)) {
            session.server.look_earlier();
            tracing::warn!(%broker, %end, "broker lost: it may come back for {:?}", limits::COME_BACK);
        }
    }

    pub(crate) fn routes<T>(&self, act: impl FnOnce(&mut Routes, Now) -> T) -> T {
        self.server.routes(act)
    }

    pub(crate) fn hello(&self, hello: &Hello) -> Result<HelloReply, WireError> {
        hello.answer(Role::NameServer, self.server.name(), self.server.now_ms())
    }

    pub(crate) fn config(&self) -> DescribeConfigReply {
        DescribeConfigReply {
            entries: self.server.settings(),
        }
    }

    pub(crate) fn heartbeat(&self, beat: &Heartbeat) -> Result<HeartbeatReply, WireError> {
        let registered = match &beat.broker {
            None => false,
            Some(broker) => {
                self.peers_only()?;
                self.routes(|routes, now| routes.heartbeat(broker, self.connection, now))
            }
        };
        Ok(HeartbeatReply {
            registered,
            time_ms: self.server.now_ms(),
        })
    }

    pub(crate) fn register(
        &self,
        register: RegisterBroker,
    ) -> Result<RegisterBrokerReply, WireError> {
        self.peers_only()?;
        let (broker, address) = (register.broker.clone(), register.address.clone());
        let topics = register.topics.len();
        self.routes(|routes, now| routes.register(register, self.connection, now))?;
        self.server.look_earlier();
        tracing::info!(%broker, address, topics, "broker registered");
        Ok(RegisterBrokerReply {
            expires_after_ms: limits::EXPIRY.as_millis() as u32,
        })
    }

    pub(crate) fn confirm(&self, confirm: &ConfirmBroker) -> Result<ConfirmBrokerReply, WireError> {
        self.peers_only()?;
        let registered = self.routes(|routes, now| routes.confirm(confirm, self.connection, now));
        Ok(ConfirmBrokerReply { registered })
    }

    pub(crate) fn publish(&self, news: PublishTopics) -> Result<PublishTopicsReply, WireError> {
        self.peers_only()?;
        let registered = self.routes(|routes, now| routes.publish(news, self.connection, now));
        Ok(PublishTopicsReply { registered })
    }

    fn peers_only(&self) -> Result<(), WireError> {
        match self.door {
            Door::Peer => Ok(()),
            Door::Client => Err(WireError::new(
                Code::FORBIDDEN,
                "only brokers register, and they come as quern-peer/1 with a node certificate",
            )),
        }
    }
}

/// Whether the other side has said that it goes, rather than being lost.
fn is_farewell(end: &Lost) -> bool {
    matches!(end.reason, Some(CloseReason::Bye | CloseReason::GoingAway))
}

impl Handler for Session {
    async fn handle(&self, frame: Frame) -> Outgoing {
        requests::handle(self, &frame)
    }

    /// Nothing here waits for anything.
    async fn ready(&self) {}
}
