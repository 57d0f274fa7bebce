//! Answers that never arrive: a relay before a broker or a name server lets none through to a client, until that client
//! begins a new connection.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use quern_client::{Client, Filter, SimpleConsumer, Trust};
use quern_harness::{Node, World};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::sdk::connect;
use crate::{QUERN, world_with_node};

/// By client: whether answers to it are lost.
type Lost = Arc<Mutex<HashMap<SocketAddr, bool>>>;

/// Carries datagrams between clients and a server.
struct Relay {
    address: SocketAddr,
    lost: Lost,
}

impl Relay {
    fn start(server: &str) -> Result<Self> {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0")?);
        let (address, server) = (front.local_addr()?, server.parse()?);
        let lost = Lost::default();
        let known = Arc::clone(&lost);
        thread::spawn(move || to_server(&front, server, &known));
        Ok(Self { address, lost })
    }

    /// The clients there are now hear nothing more.
    fn lose_answers(&self) {
        let mut lost = self.lost.lock().expect("nobody panics");
        lost.values_mut().for_each(|it| *it = true);
    }
}

/// A datagram that begins a connection: a long header, of type Initial.
fn begins(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| first & 0xf0 == 0xc0)
}

fn to_server(front: &Arc<UdpSocket>, server: SocketAddr, lost: &Lost) -> Option<()> {
    let mut backs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut datagram = [0; 65_536];
    loop {
        let (len, client) = front.recv_from(&mut datagram).ok()?;
        let datagram = &datagram[..len];
        if begins(datagram) {
            lost.lock().ok()?.insert(client, false);
        }
        let back = match backs.entry(client) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let back = Arc::new(UdpSocket::bind("127.0.0.1:0").ok()?);
                back.connect(server).ok()?;
                let (front, lost) = (Arc::clone(front), Arc::clone(lost));
                let theirs = Arc::clone(&back);
                thread::spawn(move || to_client(&theirs, &front, client, &lost));
                place.insert(back)
            }
        };
        // A server that is not there is the client's business.
        let _ = back.send(datagram);
    }
}

fn to_client(back: &UdpSocket, front: &UdpSocket, client: SocketAddr, lost: &Lost) -> Option<()> {
    let mut datagram = [0; 65_536];
    loop {
        let len = back.recv(&mut datagram).ok()?;
        if !*lost.lock().ok()?.get(&client)? {
            front.send_to(&datagram[..len], client).ok()?;
        }
    }
}

async fn next(consumer: &mut SimpleConsumer) -> Result<String> {
    let delivery = timeout(Duration::from_secs(60), consumer.receive()).await;
    let delivery = delivery.context("nothing comes")??;
    ensure!(delivery.attempts() == 0, "it was given before");
    let body = String::from_utf8_lossy(delivery.message().body()).into_owned();
    delivery.ack().await?;
    Ok(body)
}

/// What it gave is hidden for ten minutes, from this consumer, too; and in order nothing comes before it.
#[test]
fn what_a_lost_answer_gave_is_given_to_who_asks_again() -> Result<()> {
    let world = World::new(QUERN)?;
    let mut node = Node::new(&world, "data")?;
    let relay = Relay::start(&node.broker)?;
    node.start(&world, &["--advertise", &relay.address.to_string()])?;
    let runtime = Runtime::new()?;
    let produce = |body: &str| world.ok(&["produce", "t", body, "--namesrv", &node.namesrv]);
    runtime.block_on(async {
        let client = connect(&world, &node).await?;
        client.admin().create_topic("t", 1).await?;
        produce("heard")?;
        let consumer = client.simple_consumer("g").in_order();
        let consumer = consumer.invisible(Duration::from_secs(600));
        let mut consumer = consumer.subscribe("t", Filter::All).start().await?;
        ensure!(next(&mut consumer).await? == "heard");
        relay.lose_answers();
        produce("not heard")?;
        produce("behind it")?;
        ensure!(next(&mut consumer).await? == "not heard");
        ensure!(next(&mut consumer).await? == "behind it");
        Ok(())
    })
}

/// Its connection would count as lost after 90 s, and nothing asked over it is answered until then.
#[test]
fn a_name_server_that_stops_answering_is_asked_over_another_connection() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let relay = Relay::start(&node.namesrv)?;
    let authority = world.path(".local/share/quern/dev-ca/ca.pem");
    Runtime::new()?.block_on(async {
        let client = Client::builder()
            .namesrv([relay.address.to_string()])
            .trust(Trust::ca_file(&authority)?)
            .request_timeout(Duration::from_secs(3));
        let admin = client.build().await?.admin();
        ensure!(admin.brokers().await?.len() == 1);
        relay.lose_answers();
        let error = admin.brokers().await.err().context("nobody answers")?;
        ensure!(error.is_retryable(), "{error}");
        // A machine that does much else may take longer than that once.
        for _ in 0..5 {
            if admin.brokers().await.is_ok() {
                return Ok(());
            }
        }
        bail!("it is asked over the connection that is silent")
    })
}
