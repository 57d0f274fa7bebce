//! Signatures only, replaced as the files land.
#![allow(unused, clippy::todo, clippy::allow_attributes_without_reason)]
use crate::*;
use bytes::Bytes;
use quern_protocol::frame::{Frame, Outgoing};
use quern_protocol::{Hello, HelloReply, Operation};
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door { Client, Peer }
#[derive(Debug, Clone)]
pub struct DevAuthority;
impl DevAuthority {
    pub fn open() -> Result<Self, TlsError> { todo!() }
    pub fn open_in(dir: &Path) -> Result<Self, TlsError> { todo!() }
    pub fn fingerprint(&self) -> &str { todo!() }
    pub fn dir(&self) -> &Path { todo!() }
    pub fn issue(&self, role: &str, node: &str) -> Result<NodeIdentity, TlsError> { todo!() }
    pub fn issue_for(&self, role: &str, node: &str, names: &[String]) -> Result<NodeIdentity, TlsError> { todo!() }
    pub fn trust(&self) -> Trust { todo!() }
}
#[derive(Debug)]
pub struct NodeIdentity;
impl Clone for NodeIdentity { fn clone(&self) -> Self { Self } }
impl NodeIdentity {
    pub fn load(dir: &Path) -> Result<Self, TlsError> { todo!() }
}
#[derive(Debug, Clone)]
pub struct Trust;
impl Trust {
    pub fn ca_file(path: &Path) -> Result<Self, TlsError> { todo!() }
    pub fn pin(text: &str) -> Result<Self, TlsError> { todo!() }
}
#[derive(Debug, Clone)]
pub struct ListenConfig { pub address: SocketAddr, pub identity: NodeIdentity, pub peers: Trust, pub reset_secret: [u8; 32], pub first_frame: Duration }
impl ListenConfig {
    pub fn new(address: SocketAddr, identity: NodeIdentity, peers: Trust, reset_secret: [u8; 32]) -> Self { todo!() }
}
#[derive(Debug)]
pub struct Listener;
impl Listener {
    pub fn bind(config: ListenConfig) -> Result<Self, BindError> { todo!() }
    pub fn local_addr(&self) -> SocketAddr { todo!() }
    pub async fn accept(&self) -> Option<Connection> { todo!() }
    pub fn close(&self, reason: CloseReason) { todo!() }
    pub async fn drained(&self) { todo!() }
}
#[derive(Debug, Clone)]
pub struct Connector;
impl Connector {
    pub fn new(trust: Trust, identity: Option<NodeIdentity>, door: Door) -> Result<Self, BindError> { todo!() }
    pub async fn connect(&self, address: &str) -> Result<Connection, ConnectError> { todo!() }
}
#[derive(Debug)]
pub struct FrameSender;
impl FrameSender {
    pub async fn send(&mut self, frame: Outgoing) -> Result<(), Lost> { todo!() }
    pub fn finish(&mut self) { todo!() }
}
#[derive(Debug)]
pub struct FrameReceiver;
impl FrameReceiver {
    pub async fn receive(&mut self) -> Result<Option<Frame>, StreamError> { todo!() }
}
#[derive(Debug)]
pub struct StreamError;
#[derive(Debug, Clone)]
pub struct Connection;
impl Connection {
    pub fn door(&self) -> Door { todo!() }
    pub fn remote_addr(&self) -> SocketAddr { todo!() }
    pub async fn open(&self) -> Result<(FrameSender, FrameReceiver), Lost> { todo!() }
    pub async fn accept(&self) -> Result<(FrameSender, FrameReceiver), Lost> { todo!() }
    pub fn close(&self, reason: CloseReason, text: &str) { todo!() }
    pub async fn closed(&self) -> Lost { todo!() }
    pub fn is_closed(&self) -> bool { todo!() }
    pub async fn hello(&self, hello: &Hello) -> Result<HelloReply, CallError> { todo!() }
    pub async fn call<O: Operation + Sync>(&self, op: &O, body: Vec<Bytes>, within: Duration) -> Result<(O::Reply, Bytes), CallError> { todo!() }
}
#[derive(Debug, Clone)]
pub struct Lane;
impl Lane {
    pub async fn open(connection: &Connection) -> Result<Self, Lost> { todo!() }
    pub fn call<O: Operation>(&self, op: &O, body: Vec<Bytes>, within: Duration) -> impl Future<Output = Result<(O::Reply, Bytes), CallError>> + Send + use<O> { async { todo!() } }
}
pub trait Handler: Send + Sync + 'static {
    fn handle(&self, frame: Frame) -> impl Future<Output = Outgoing> + Send;
    fn ready(&self) -> impl Future<Output = ()> + Send;
}
pub async fn serve<H: Handler>(connection: Connection, handler: Arc<H>) -> Lost { todo!() }
#[derive(Debug, Clone)]
pub struct Backoff;
impl Backoff {
    pub fn new() -> Self { todo!() }
    /// How long to wait before the next attempt; `random` is drawn from 0..1.
    pub fn next(&mut self, random: f64) -> Duration { todo!() }
    pub fn healthy(&mut self, lasted: Duration) { todo!() }
}
