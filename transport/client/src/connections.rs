//! One connection per server, made on first use and made again when it is lost, shared by all that
//! this client does. Sends and pulls travel on streams of their own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use quern_protocol::{Code, Hello, LONG_HOLDS, Role, Subscribe};
use quern_quic::{CloseReason, ConnectError, Connection, Connector, Lane, Subscription};
use tokio::sync::OnceCell;

use crate::error::{Error, Result};
use crate::limits;

/// A connection that said hello, and its long streams.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) connection: Connection,
    pub(crate) sends: Lane,
    pub(crate) polls: Lane,
    /// What the server said it is able to.
    features: u64,
    /// Made with the first subscription: who only sends needs none.
    subscriptions: Arc<OnceCell<Lane>>,
}

impl Live {
    /// Nobody answers: who asks again, asks over a new connection.
    pub(crate) fn give_up(&self) {
        self.connection.close(CloseReason::Bye, "no answer");
    }

    /// It holds what members of groups ask for long.
    pub(crate) fn holds_long(&self) -> bool {
        self.features & LONG_HOLDS != 0
    }

    pub(crate) async fn subscribe(&self, request: &Subscribe) -> Result<Subscription> {
        let open = || async { Lane::open(&self.connection).await.map_err(lost) };
        let lane = self.subscriptions.get_or_try_init(open).await?;
        Ok(lane.subscribe(request).await?)
    }
}

type Place = Arc<tokio::sync::Mutex<Option<Live>>>;

/// All connections of one client.
#[derive(Debug)]
pub(crate) struct Connections {
    connector: Connector,
    /// `None` once closed: whoever is still at it makes no new connections.
    places: Mutex<Option<HashMap<String, Place>>>,
}

const POISONED: &str = "no code that can panic runs under the connections lock";

impl Connections {
    pub(crate) fn new(connector: Connector) -> Self {
        Self {
            connector,
            places: Mutex::new(Some(HashMap::new())),
        }
    }

    /// The connection to a broker's address. Those who ask while it is being made wait for the same one.
    pub(crate) async fn to(&self, address: &str) -> Result<Live> {
        self.made(address, self.connector.connect(address)).await
    }

    /// The same to a name server, which is asked seldom.
    pub(crate) async fn to_name_server(&self, address: &str) -> Result<Live> {
        let connecting = self.connector.connect_seldom(address);
        self.made(address, connecting).await
    }

    async fn made(
        &self,
        address: &str,
        connecting: impl Future<Output = std::result::Result<Connection, ConnectError>>,
    ) -> Result<Live> {
        let place = {
            let mut places = self.places.lock().expect(POISONED);
            let places = places
                .as_mut()
                .ok_or_else(|| Error::new(Code::CONNECTION_LOST, "this client is closed"))?;
            Arc::clone(places.entry(address.to_owned()).or_default())
        };
        // Held while connecting on purpose: it is what the others wait for.
        let mut live = place.lock().await;
        match &*live {
            Some(live) if !live.connection.is_closed() => Ok(live.clone()),
            _ => Ok(live.insert(greet(connecting.await?).await?).clone()),
        }
    }

    /// Says goodbye to everyone.
    pub(crate) async fn close(&self) {
        let places = self.places.lock().expect(POISONED).take();
        for place in places.into_iter().flat_map(HashMap::into_values) {
            if let Some(live) = place.lock().await.take() {
                live.connection.close(CloseReason::Bye, "");
            }
        }
        // The goodbyes leave within a few round trips; a peer that is gone is not waited for.
        let left = tokio::time::timeout(limits::GOODBYE, self.connector.drained());
        if left.await.is_err() {
            tracing::debug!("some servers did not hear the goodbye");
        }
    }
}

async fn greet(connection: Connection) -> Result<Live> {
    let open = async {
        let hello = connection.hello(&Hello::new(Role::Client)).await?;
        let sends = Lane::open(&connection).await.map_err(lost)?;
        let polls = Lane::open(&connection).await.map_err(lost)?;
        Ok(Live {
            connection: connection.clone(),
            sends,
            polls,
            features: hello.features,
            subscriptions: Arc::default(),
        })
    };
    let opened: Result<Live> = open.await;
    opened.inspect_err(|_| connection.close(CloseReason::Bye, ""))
}

/// Asks a question that may be asked twice once more when its connection is lost: the server was started again since
/// it was last spoken with, and is there.
pub(crate) async fn again_if_lost<T, F>(once: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    match once().await {
        Err(error) if error.coded() == Code::CONNECTION_LOST => once().await,
        answer => answer,
    }
}

fn lost(lost: quern_quic::Lost) -> Error {
    Error::new(lost.code(), lost.to_string())
}
