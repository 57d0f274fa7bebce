//! Certificates of this process: from the development CA, or from files.

use std::path::Path;

use quern_quic::{DevAuthority, NodeIdentity, TlsError, Trust};

use crate::config::{Config, Identity};

/// Who this process is, and whom it takes for a peer.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub(crate) identity: NodeIdentity,
    pub(crate) peers: Trust,
    /// Of the development CA, when that is used.
    pub(crate) fingerprint: Option<String>,
}

impl Credentials {
    /// `names`: what clients call this node.
    pub(crate) fn load(config: &Config, names: &[String]) -> Result<Self, TlsError> {
        match &config.identity {
            Identity::Development { .. } => {
                let authority = match &config.dev_ca {
                    Some(dir) => DevAuthority::open_in(dir)?,
                    None => DevAuthority::open()?,
                };
                Ok(Self {
                    identity: authority.issue_for("node", config.name.as_str(), names)?,
                    peers: authority.trust(),
                    fingerprint: Some(authority.fingerprint().to_owned()),
                })
            }
            Identity::Files(dir) => Self::files(dir),
        }
    }

    fn files(dir: &Path) -> Result<Self, TlsError> {
        Ok(Self {
            identity: NodeIdentity::load(dir)?,
            peers: Trust::ca_file(&dir.join("ca.pem"))?,
            fingerprint: None,
        })
    }
}
