//! Compiled plugins kept between starts, so that a restart compiles nothing.
//!
//! ```text
//! plugins/node.key                                   32 random bytes, readable by the owner only
//! plugins/cwasm/<wasmtime>-<hash>/<sha256>.cwasm     one artefact:
//!
//!  0  32  HMAC-SHA256 under node.key of all that follows
//! 32   8  "QRAOT001"
//! 40   8  hash of the engine's settings
//! 48  32  SHA-256 of the component
//! 80      machine code
//! ```
//!
//! A file is read into memory, and the bytes in memory are verified and loaded: between check and
//! use there is no file that could change. What does not verify is removed and compiled again. Made
//! by this user on this machine only, never taken from another. Processes that share a directory meet
//! in nothing but whole files.

use std::fs::{self, File};
use std::hash::{Hash as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use wasmtime::Engine;

use crate::artefact::Artefact;
use crate::digest::Digest;
use crate::limits;

const MAGIC: &[u8; 8] = b"QRAOT001";
const MAC: usize = 32;
const HEAD: usize = MAC + 8 + 8 + 32;
const WASMTIME: &str = "48";

/// The artefacts of one node and one engine.
pub(crate) struct Cache {
    dir: PathBuf,
    key: hmac::Key,
    engine: u64,
}

impl Cache {
    /// Makes what is missing under `plugins`; removes artefacts of other engines.
    pub(crate) fn open(plugins: &Path, engine: &Engine) -> io::Result<Self> {
        fs::create_dir_all(plugins)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &node_key(&plugins.join("node.key"))?);
        let mut hasher = std::hash::DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let engine = hasher.finish();
        let all = plugins.join("cwasm");
        let name = format!("{WASMTIME}-{engine:016x}");
        let dir = all.join(&name);
        fs::create_dir_all(&dir)?;
        for other in fs::read_dir(&all)? {
            let other = other?;
            if other.file_name() != name.as_str() {
                fs::remove_dir_all(other.path())?;
            }
        }
        Ok(Self { dir, key, engine })
    }

    fn file(&self, component: &Digest) -> PathBuf {
        self.dir.join(component.to_string()).with_extension("cwasm")
    }

    /// The artefact of a component, if it is here and untouched.
    pub(crate) fn find(&self, component: &Digest) -> Option<Artefact> {
        let file = self.file(component);
        let bytes = match read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "a compiled plugin cannot be read");
                return None;
            }
        };
        if self.is_ours(component, &bytes) {
            return Some(Artefact::verified(bytes, HEAD));
        }
        tracing::warn!(
            file = %file.display(),
            "a compiled plugin was changed since it was written here; it is removed and compiled again"
        );
        self.forget(component);
        None
    }

    fn is_ours(&self, component: &Digest, bytes: &[u8]) -> bool {
        let Some((mac, rest)) = bytes.split_at_checked(MAC) else {
            return false;
        };
        rest.starts_with(&self.head(component)) && hmac::verify(&self.key, rest, mac).is_ok()
    }

    fn head(&self, component: &Digest) -> [u8; HEAD - MAC] {
        let mut head = [0; HEAD - MAC];
        head[..8].copy_from_slice(MAGIC);
        head[8..16].copy_from_slice(&self.engine.to_le_bytes());
        head[16..].copy_from_slice(component.bytes());
        head
    }

    /// Keeps an artefact; the oldest go when there are too many. A cache that cannot be written to
    /// costs time at the next start and nothing else.
    pub(crate) fn keep(&self, component: &Digest, artefact: &Artefact) {
        let written = self.write(component, artefact).and_then(|()| self.shrink());
        if let Err(error) = written {
            tracing::warn!(dir = %self.dir.display(), %error, "a compiled plugin was not kept");
        }
    }

    fn write(&self, component: &Digest, artefact: &Artefact) -> io::Result<()> {
        let head = self.head(component);
        let mut mac = hmac::Context::with_key(&self.key);
        mac.update(&head);
        mac.update(artefact.code());
        let file = self.file(component);
        let new = unique(&file);
        // Not synced: what a crash tears does not verify.
        let mut out = File::create(&new)?;
        out.write_all(mac.sign().as_ref())?;
        out.write_all(&head)?;
        out.write_all(artefact.code())?;
        fs::rename(new, file)
    }

    fn shrink(&self) -> io::Result<()> {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let about = entry.metadata()?;
            files.push((about.modified()?, about.len(), entry.path()));
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, len, _)| len).sum();
        for (_, len, path) in files {
            if total <= limits::CACHE {
                break;
            }
            fs::remove_file(path)?;
            total -= len;
        }
        Ok(())
    }

    pub(crate) fn forget(&self, component: &Digest) {
        if let Err(error) = fs::remove_file(self.file(component))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %self.dir.display(), %error, "a compiled plugin stays");
        }
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(file)?;
    bytes.reserve_exact(usize::try_from(file.metadata()?.len()).unwrap_or(0));
    file.take(limits::CACHE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A name beside this file that no other writer has.
fn unique(file: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    file.with_extension(format!("{}-{next}.new", std::process::id()))
}

/// This node's secret; made at its first start.
fn node_key(file: &Path) -> io::Result<[u8; 32]> {
    match fs::read(file) {
        Ok(bytes) => {
            if let Ok(key) = bytes.try_into() {
                return Ok(key);
            }
            tracing::warn!(file = %file.display(), "not a key; a new one is made");
            fs::remove_file(file)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut key = [0; 32];
    let random = SystemRandom::new().fill(&mut key);
    random.map_err(|_| io::Error::other("the system gives no random bytes"))?;
    let new = unique(file);
    let mut out = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    out.write_all(&key)?;
    out.sync_all()?;
    // Whoever is first gives the key: a link never replaces a file.
    let linked = fs::hard_link(&new, file);
    fs::remove_file(&new)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => node_key(file),
        other => other.map(|()| key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine;

    #[test]
    fn only_what_was_written_here_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let engine = engine::serving(1).unwrap();
        let digest = Digest::of(b"a component");
        let open = || Cache::open(dir.path(), &engine).unwrap();
        let cache = open();
        assert!(cache.find(&digest).is_none());
        let code = b"machine code".to_vec();
        cache.keep(&digest, &Artefact::compiled(code.clone()));
        assert_eq!(open().find(&digest).unwrap().code(), code);
        let file = cache.file(&digest);
        let whole = fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let mut touched = whole.clone();
            touched[at] ^= 1;
            fs::write(&file, &touched).unwrap();
            assert!(cache.find(&digest).is_none(), "byte {at}");
            assert!(!file.exists(), "it is removed");
        }
        for len in 0..whole.len() {
            fs::write(&file, &whole[..len]).unwrap();
            assert!(cache.find(&digest).is_none(), "{len} bytes");
        }
        // Another component's artefact under this one's name, though its MAC is right.
        let other = Digest::of(b"another component");
        cache.keep(&other, &Artefact::compiled(code.clone()));
        fs::rename(cache.file(&other), &file).unwrap();
        assert!(cache.find(&digest).is_none());
        // Those who begin at once agree about the key.
        let fresh = dir.path().join("fresh");
        fs::create_dir(&fresh).unwrap();
        let keys: Vec<_> = std::thread::scope(|scope| {
            let ask = || node_key(&fresh.join("node.key")).unwrap();
            let asked: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            asked.into_iter().map(|it| it.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| key == &keys[0]));
        assert_eq!(
            fs::read_dir(&fresh).unwrap().count(),
            1,
            "and leave nothing"
        );
        // Another node's.
        fs::write(&file, &whole).unwrap();
        fs::remove_file(dir.path().join("node.key")).unwrap();
        assert!(open().find(&digest).is_none());
    }
}
