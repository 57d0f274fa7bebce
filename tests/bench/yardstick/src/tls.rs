//! TLS 1.3 over TCP by hand, as raw as the raw QUIC beside it: what a broker would have that had chosen it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

/// Bytes of an answer.
const ANSWER: usize = 8;
const NAME: &str = "yardstick";

/// Frames of this size, each answered by a few bytes, so many in flight: frames a second.
pub(crate) fn rate(size: usize, in_flight: usize, lasting: Duration) -> Result<f64> {
    let (server, client) = configs()?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let answering = std::thread::spawn(move || answer(&listener, server, size));
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let connection = ClientConnection::new(client, ServerName::try_from(NAME)?)?;
    let mut stream = StreamOwned::new(connection, stream);
    let frame = vec![7; size];
    let mut answers = vec![0; in_flight * ANSWER];
    let (mut due, mut done, mut left_over) = (in_flight, 0_u64, 0);
    // The handshake is not measured.
    stream.write_all(&frame)?;
    stream.flush()?;
    stream.read_exact(&mut answers[..ANSWER])?;
    let began = Instant::now();
    while began.elapsed() < lasting {
        for _ in 0..due {
            stream.write_all(&frame)?;
        }
        stream.flush()?;
        left_over += stream.read(&mut answers)?;
        due = left_over / ANSWER;
        left_over %= ANSWER;
        done += due as u64;
    }
    let rate = done as f64 / began.elapsed().as_secs_f64();
    drop(stream);
    // It ends because its connection does, which it tells as an error.
    let _ = answering.join();
    Ok(rate)
}

fn configs() -> Result<(Arc<ServerConfig>, Arc<ClientConfig>)> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let signed = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let certificate = signed.cert.der().clone();
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der())
        .ok()
        .context("a key that was just made is none")?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let versions = [&rustls::version::TLS13];
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((Arc::new(server), Arc::new(client)))
}

/// Answers what one connection brings, until it ends.
fn answer(listener: &TcpListener, config: Arc<ServerConfig>, size: usize) -> Result<()> {
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut stream = StreamOwned::new(ServerConnection::new(config)?, stream);
    let mut received = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let more = stream.read(&mut received)?;
        if more == 0 {
            return Ok(());
        }
        bytes += more;
        let frames = bytes / size;
        bytes %= size;
        stream.write_all(&vec![0; frames * ANSWER])?;
        stream.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_answered() {
        for in_flight in [1, 8] {
            let rate = rate(1_000, in_flight, Duration::from_millis(50)).expect("loopback works");
            assert!(rate > 0.0);
        }
    }
}
