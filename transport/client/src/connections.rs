//! One connection per server, made on first use and made again when it is lost, shared by all that
//! this client does. Sends and pulls travel on streams of their own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use quern_protocol::{Hello, Role};
use quern_quic::{CloseReason, Connection, Connector, Lane};

use crate::error::{Error, Result};

/// A connection that said hello, and its long streams.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) connection: Connection,
    pub(crate) sends: Lane,
    pub(crate) polls: Lane,
}

type Place = Arc<tokio::sync::Mutex<Option<Live>>>;

/// All connections of one client.
#[derive(Debug)]
pub(crate) struct Connections {
    connector: Connector,
    places: Mutex<HashMap<String, Place>>,
}

impl Connections {
    pub(crate) fn new(connector: Connector) -> Self {
        Self {
            connector,
            places: Mutex::default(),
        }
    }

    /// The connection to an address. Those who ask while it is being made wait for the same one.
    pub(crate) async fn to(&self, address: &str) -> Result<Live> {
        let place = {
            let mut places = self
                .places
                .lock()
                .expect("no code that can panic runs under the connections lock");
            Arc::clone(places.entry(address.to_owned()).or_default())
        };
        // Held while connecting on purpose: it is what the others wait for.
        let mut live = place.lock().await;
        match &*live {
            Some(live) if !live.connection.is_closed() => Ok(live.clone()),
            _ => Ok(live.insert(self.connect(address).await?).clone()),
        }
    }

    async fn connect(&self, address: &str) -> Result<Live> {
        let connection = self.connector.connect(address).await?;
        let open = async {
            connection.hello(&Hello::new(Role::Client)).await?;
            let sends = Lane::open(&connection).await.map_err(lost)?;
            let polls = Lane::open(&connection).await.map_err(lost)?;
            Ok(Live {
                connection: connection.clone(),
                sends,
                polls,
            })
        };
        let opened: Result<Live> = open.await;
        opened.inspect_err(|_| connection.close(CloseReason::Bye, ""))
    }

    /// Says goodbye to everyone.
    pub(crate) async fn close(&self) {
        let places: Vec<Place> = {
            let mut places = self
                .places
                .lock()
                .expect("no code that can panic runs under the connections lock");
            places.drain().map(|(_, place)| place).collect()
        };
        for place in places {
            if let Some(live) = place.lock().await.take() {
                live.connection.close(CloseReason::Bye, "");
            }
        }
        self.connector.drained().await;
    }
}

fn lost(lost: quern_quic::Lost) -> Error {
    Error::new(lost.code(), lost.to_string())
}
