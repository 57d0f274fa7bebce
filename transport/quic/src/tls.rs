//! Identities, trust, and the TLS configurations of both sides, built by hand.
//!
//! TLS 1.3 and nothing older; no tickets, no stored sessions, no early data: a replayed send would
//! be a duplicate, and a resumed session would skip the check of the chain.

use std::path::Path;
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use ring::{digest, hmac};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::config::Door;
use crate::error::TlsError;

/// A certificate chain and its key: who a process is.
#[derive(Debug)]
pub struct NodeIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// Keys whatever else this identity must keep the same over restarts.
    root: hmac::Key,
}

impl Clone for NodeIdentity {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            root: self.root.clone(),
        }
    }
}

impl NodeIdentity {
    /// Reads `node.pem` (the chain, own certificate first) and `node.key` (PKCS #8) of a directory.
    pub fn load(dir: &Path) -> Result<Self, TlsError> {
        let chain = certificates(&dir.join("node.pem"))?;
        let path = dir.join("node.key");
        let text = read(&path)?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| TlsError::Content {
            path,
            why: format!("no private key in PEM form: {error}"),
        })?;
        let root = key.secret_der().to_vec();
        Ok(Self::new(chain, key, &root))
    }

    /// `root` is secret and outlives this process.
    pub(crate) fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        root: &[u8],
    ) -> Self {
        Self {
            chain,
            key,
            root: hmac::Key::new(hmac::HMAC_SHA256, root),
        }
    }

    /// A secret for one purpose, the same after every restart with this identity.
    pub fn secret(&self, purpose: &str) -> [u8; 32] {
        let mut secret = [0; 32];
        secret.copy_from_slice(hmac::sign(&self.root, purpose.as_bytes()).as_ref());
        secret
    }
}

/// Which certificates of the other side are believed.
#[derive(Debug, Clone)]
pub struct Trust(Anchor);

#[derive(Debug, Clone)]
enum Anchor {
    Authorities(Arc<RootCertStore>),
    Pin(Fingerprint),
}

/// SHA-256 of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(crate) fn of(certificate: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, certificate);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    fn parse(text: &str) -> Option<Self> {
        let hex: Vec<u8> = text
            .strip_prefix("sha256:")?
            .bytes()
            .filter(|byte| *byte != b':')
            .collect();
        let mut bytes = [0; 32];
        if hex.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
            *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
        }
        Some(Self(bytes))
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Trust {
    /// The authorities in a PEM file.
    pub fn ca_file(path: &Path) -> Result<Self, TlsError> {
        Self::authorities(certificates(path)?).map_err(|why| TlsError::Content {
            path: path.to_owned(),
            why,
        })
    }

    /// The authority, or the very certificate, with this fingerprint: `sha256:` and 64 digits.
    pub fn pin(text: &str) -> Result<Self, TlsError> {
        match Fingerprint::parse(text.trim()) {
            Some(fingerprint) => Ok(Self(Anchor::Pin(fingerprint))),
            None => Err(TlsError::Pin(text.to_owned())),
        }
    }

    pub(crate) fn authorities(
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots
                .add(certificate)
                .map_err(|error| format!("not the certificate of an authority: {error}"))?;
        }
        Ok(Self(Anchor::Authorities(Arc::new(roots))))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::File {
        path: path.to_owned(),
        source,
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = |why: String| TlsError::Content {
        path: path.to_owned(),
        why,
    };
    let text = read(path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| content(format!("no certificate in PEM form: {error}")))?;
    if found.is_empty() {
        return Err(content("no certificate in PEM form".to_owned()));
    }
    Ok(found)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn refused(error: impl std::fmt::Display) -> TlsError {
    TlsError::Refused(error.to_string())
}

/// A listener's side. A client may come without a certificate; one that it shows must be good. That
/// a peer has one is checked after the handshake, when its door is known.
pub(crate) fn server(
    identity: &NodeIdentity,
    peers: &Trust,
) -> Result<rustls::ServerConfig, TlsError> {
    let Anchor::Authorities(roots) = &peers.0 else {
        return Err(refused("nodes are known by an authority, not by a pin"));
    };
    let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
        .allow_unauthenticated()
        .build()
        .map_err(refused)?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused)?
        .with_client_cert_verifier(clients)
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(refused)?;
    config.alpn_protocols = [Door::Client, Door::Peer]
        .map(|door| door.alpn().as_bytes().to_vec())
        .to_vec();
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

pub(crate) fn quic_server(config: rustls::ServerConfig) -> Result<QuicServerConfig, TlsError> {
    QuicServerConfig::try_from(config).map_err(refused)
}

/// A connector's side.
pub(crate) fn client(
    trust: &Trust,
    identity: Option<&NodeIdentity>,
    door: Door,
) -> Result<rustls::ClientConfig, TlsError> {
    let versions = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused)?;
    let verified = match &trust.0 {
        Anchor::Authorities(roots) => versions.with_root_certificates(roots.clone()),
        Anchor::Pin(pin) => versions
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned {
                pin: *pin,
                algorithms: provider().signature_verification_algorithms,
            })),
    };
    let mut config = match identity {
        None => verified.with_no_client_auth(),
        Some(identity) => verified
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(refused)?,
    };
    config.alpn_protocols = vec![door.alpn().as_bytes().to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

pub(crate) fn quic_client(config: rustls::ClientConfig) -> Result<QuicClientConfig, TlsError> {
    QuicClientConfig::try_from(config).map_err(refused)
}

/// Believes a chain that holds the pinned certificate: as its authority, or as the certificate
/// itself. The name is not compared: whoever pins knows the authority, not the address.
#[derive(Debug)]
struct Pinned {
    pin: Fingerprint,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if Fingerprint::of(end_entity) == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        let Some(authority) = intermediates
            .iter()
            .find(|certificate| Fingerprint::of(certificate) == self.pin)
        else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DevAuthority;

    #[test]
    fn nothing_is_resumed_and_nothing_is_sent_early() {
        let dir = tempfile::tempdir().unwrap();
        let authority = DevAuthority::open_in(&dir.path().join("ca")).unwrap();
        let identity = authority.issue("broker", "a").unwrap();

        let server = server(&identity, &authority.trust()).unwrap();
        assert_eq!(server.max_early_data_size, 0);
        assert_eq!(server.send_tls13_tickets, 0);
        assert!(!server.session_storage.can_cache());
        assert!(!server.ticketer.enabled());
        assert_eq!(
            server.alpn_protocols,
            [b"quern/1".to_vec(), b"quern-peer/1".to_vec()]
        );

        let client = client(&authority.trust(), None, Door::Client).unwrap();
        assert!(!client.enable_early_data);
        let resumption = format!("{:?}", client.resumption);
        assert!(
            resumption.contains("NoClientSessionStorage"),
            "{resumption}"
        );
    }

    #[test]
    fn a_pin_is_a_whole_sha_256() {
        let good = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(
            Fingerprint::parse(&good).map(|pin| pin.to_string()),
            Some(good.clone())
        );
        for bad in [
            "",
            "sha256:",
            "sha256:abcd",
            &good[7..],
            &good.replace('a', "x"),
        ] {
            assert!(Trust::pin(bad).is_err(), "{bad}");
        }
    }
}
