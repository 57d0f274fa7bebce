//! The development CA: one per user, made by whichever process needs it first.
//!
//! Its directory (0700) holds `ca.pem` and `ca.key` (0600) and appears whole or not at all: it is
//! written beside its place and renamed, so two processes that race end with the same authority.
//! Who reads the key can be every node of this user: it is for one person's machine only.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::TlsError;
use crate::tls::{Fingerprint, NodeIdentity, Trust};

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";
/// A clock this far behind still accepts a certificate made just now.
const CLOCK_SLACK: Duration = Duration::from_secs(24 * 3600);
/// The certificate lives in the memory of one process; this outlasts any of them.
const NODE_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The authority of one user's development nodes.
#[derive(Debug)]
pub struct DevAuthority {
    dir: PathBuf,
    certificate: CertificateDer<'static>,
    key: KeyPair,
    fingerprint: String,
    trust: Trust,
}

impl DevAuthority {
    /// Opens `$XDG_DATA_HOME/quern/dev-ca`, or the same under `~/.local/share`; makes it if missing.
    pub fn open() -> Result<Self, TlsError> {
        let of = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let data = of("XDG_DATA_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| of("HOME").map(|home| Path::new(&home).join(".local/share")))
            .ok_or(TlsError::NoHome)?;
        Self::open_in(&data.join("quern/dev-ca"))
    }

    /// Opens the authority in this directory; makes it if missing.
    pub fn open_in(dir: &Path) -> Result<Self, TlsError> {
        match fs::symlink_metadata(dir.join(CERTIFICATE)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(dir)?,
            Err(error) => return Err(file(dir)(error)),
        }
        let path = dir.join(CERTIFICATE);
        let text = fs::read(&path).map_err(file(&path))?;
        let certificate = CertificateDer::from_pem_slice(&text).map_err(content(&path))?;
        let trust = Trust::authorities([certificate.clone()]).map_err(content(&path))?;
        let path = dir.join(KEY);
        let text = fs::read_to_string(&path).map_err(file(&path))?;
        let key = KeyPair::from_pem(&text).map_err(content(&path))?;
        Ok(Self {
            dir: dir.to_owned(),
            fingerprint: Fingerprint::of(&certificate).to_string(),
            certificate,
            key,
            trust,
        })
    }

    /// `sha256:` and 64 digits: what `--pin` takes on another machine.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn trust(&self) -> Trust {
        self.trust.clone()
    }

    /// A node's certificate for this machine's names, kept in memory only.
    pub fn issue(&self, role: &str, node: &str) -> Result<NodeIdentity, TlsError> {
        self.issue_for(role, node, &[])
    }

    /// The same, valid for more host names or addresses.
    pub fn issue_for(
        &self,
        role: &str,
        node: &str,
        names: &[String],
    ) -> Result<NodeIdentity, TlsError> {
        let key = KeyPair::generate().map_err(made)?;
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, format!("quern {role} {node}"));
        params.distinguished_name = name;
        params.subject_alt_names = alternative_names(role, node, names)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let now = SystemTime::now();
        params.not_before = (now - CLOCK_SLACK).into();
        params.not_after = (now + NODE_LIFE).into();
        let authority = authority_params(&self.key);
        let certificate = params
            .signed_by(&key, &Issuer::from_params(&authority, &self.key))
            .map_err(made)?;
        let private = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|why| TlsError::Make(why.to_owned()))?;
        // The certificate is new at every start; the authority's key is not.
        let root = [self.key.serialized_der(), role.as_bytes(), node.as_bytes()].concat();
        Ok(NodeIdentity::new(
            vec![certificate.der().clone(), self.certificate.clone()],
            private,
            &root,
        ))
    }
}

/// What the authority's certificate says, as a function of its key alone: an issuer can be rebuilt
/// without parsing the certificate, and two authorities never share a name.
fn authority_params(key: &KeyPair) -> CertificateParams {
    let digest = Fingerprint::of(key.der_bytes()).to_string();
    let short = digest.get(7..19).unwrap_or_default();
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(
        DnType::CommonName,
        format!("Quernstone development CA {short}"),
    );
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    params
}

fn alternative_names(role: &str, node: &str, names: &[String]) -> Result<Vec<SanType>, TlsError> {
    let mut all = vec![
        SanType::DnsName("localhost".try_into().map_err(made)?),
        SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        SanType::URI(
            format!("quern://dev/{role}/{node}")
                .try_into()
                .map_err(made)?,
        ),
    ];
    for name in names
        .iter()
        .map(String::as_str)
        .chain(host_name().as_deref())
    {
        let san = match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.try_into().map_err(made)?),
        };
        if !all.contains(&san) {
            all.push(san);
        }
    }
    Ok(all)
}

/// This machine's name, where the system tells it and TLS can carry it.
fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    rustls::pki_types::DnsName::try_from(name.to_owned())
        .ok()
        .map(|_| name.to_owned())
}

/// Writes a new authority beside its place and moves it there; whoever comes second finds the first.
fn make(dir: &Path) -> Result<(), TlsError> {
    let key = KeyPair::generate().map_err(made)?;
    let certificate = authority_params(&key).self_signed(&key).map_err(made)?;
    let parent = dir.parent().unwrap_or_else(|| Path::new("."));
    private_dirs()
        .recursive(true)
        .create(parent)
        .map_err(file(parent))?;
    let draft = parent.join(format!(
        ".dev-ca.{}.{:016x}",
        std::process::id(),
        fastrand::u64(..)
    ));
    let written = private_dirs()
        .create(&draft)
        .and_then(|()| write(&draft.join(KEY), key.serialize_pem().as_bytes()))
        .and_then(|()| write(&draft.join(CERTIFICATE), certificate.pem().as_bytes()))
        .map_err(file(&draft))
        // A directory replaces only an empty one: the loser of a race is told.
        .and_then(|()| match fs::rename(&draft, dir) {
            Err(_) if dir.join(CERTIFICATE).exists() => Ok(()),
            done => done.map_err(file(dir)),
        });
    if draft.exists() {
        // Only a loser's or a failed draft is left; if it cannot be removed it does no harm.
        let _ = fs::remove_dir_all(&draft);
    }
    written
}

fn private_dirs() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> TlsError {
    let path = path.to_owned();
    move |source| TlsError::File { path, source }
}

fn content<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> TlsError {
    let path = path.to_owned();
    move |why| TlsError::Content {
        path,
        why: why.to_string(),
    }
}

fn made(error: rcgen::Error) -> TlsError {
    TlsError::Make(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn racing_processes_end_with_one_authority_that_only_its_user_reads() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("quern/dev-ca");
        let prints: Vec<String> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| DevAuthority::open_in(&dir).unwrap().fingerprint))
                .collect();
            racers
                .into_iter()
                .map(|racer| racer.join().unwrap())
                .collect()
        });
        assert!(prints.iter().all(|print| *print == prints[0]), "{prints:?}");

        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        assert_eq!(mode(&dir.join(KEY)), 0o600);
        assert_eq!(mode(&dir.join(CERTIFICATE)), 0o600);
        let left: Vec<_> = fs::read_dir(dir.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "no draft stays behind");
    }

    #[test]
    fn an_authority_that_does_not_read_is_named_and_kept() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("ca");
        DevAuthority::open_in(&dir).unwrap();
        fs::write(dir.join(KEY), "nonsense").unwrap();
        let error = DevAuthority::open_in(&dir).unwrap_err().to_string();
        assert!(error.contains(KEY), "{error}");
    }
}
