//! Components of strangers on the disk: those on their way in, and those that are versions of a name.
//!
//! ```text
//! plugins/incoming/<sha256>.part      the first bytes of one that is being uploaded
//! plugins/components/<sha256>.wasm    one that is whole, read-only; durable before anything names it
//! ```
//!
//! A digest names bytes for ever, so an upload goes on where it stopped, whoever sends the rest and
//! however the process ended. What is read is hashed again: bytes that changed are as good as missing.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::digest::Digest;
use crate::limits;

/// The component files of one node.
#[derive(Debug)]
pub struct Components {
    dir: PathBuf,
    /// Two uploads of the same bytes write to one file.
    incoming: Mutex<()>,
}

impl Components {
    /// Under the directory for plugins; nothing is made before it is needed.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            incoming: Mutex::default(),
        }
    }

    fn part(&self, digest: &Digest) -> PathBuf {
        self.dir.join("incoming").join(format!("{digest}.part"))
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        self.dir.join("components").join(format!("{digest}.wasm"))
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of a component that are here, from its beginning.
    pub fn received(&self, digest: &Digest) -> io::Result<u64> {
        for file in [self.file(digest), self.part(digest)] {
            if let Some(about) = found(fs::metadata(file))? {
                return Ok(about.len());
            }
        }
        Ok(0)
    }

    /// Whether all bytes of a component are here.
    pub fn is_whole(&self, digest: &Digest) -> bool {
        self.file(digest).exists()
    }

    /// Adds the bytes that follow those that are here, and says how many are here then; others are
    /// not written. The uploads nobody went on with for longest make room.
    pub fn receive(&self, digest: &Digest, at: u64, bytes: &[u8]) -> io::Result<u64> {
        let _one_writer = self.writing();
        let received = self.received(digest)?;
        if at != received || bytes.is_empty() || self.is_whole(digest) {
            return Ok(received);
        }
        let part = self.part(digest);
        if received == 0 {
            fs::create_dir_all(self.dir.join("incoming"))?;
            self.make_room()?;
        }
        let mut file = File::options().create(true).append(true).open(part)?;
        file.write_all(bytes)?;
        file.seek(SeekFrom::End(0))
    }

    fn make_room(&self) -> io::Result<()> {
        let mut parts: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(self.dir.join("incoming"))? {
            let entry = entry?;
            parts.push((entry.metadata()?.modified()?, entry.path()));
        }
        parts.sort();
        let too_many = (parts.len() + 1).saturating_sub(limits::INCOMING);
        for (_, path) in parts.into_iter().take(too_many) {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    /// The bytes of a component that is here, whole or on its way in; `None` = these are not the bytes
    /// the digest names. What went wrong on its way, or on the disk, is thrown away, so that the next upload
    /// begins anew.
    pub fn take(&self, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        if let Some(bytes) = self.read(digest)? {
            return Ok(Some(bytes));
        }
        let _one_writer = self.writing();
        self.remove(digest)?;
        let part = self.part(digest);
        let Some(bytes) = found(read(&part))? else {
            return Ok(None);
        };
        if Digest::of(&bytes) == *digest {
            return Ok(Some(bytes));
        }
        fs::remove_file(part)?;
        Ok(None)
    }

    /// Makes a component's bytes durable; it is no longer on its way in.
    pub fn keep(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let _one_writer = self.writing();
        let file = self.file(digest);
        if self.read(digest)?.is_none() {
            let dir = self.dir.join("components");
            fs::create_dir_all(&dir)?;
            let new = file.with_extension("new");
            let _ = found(fs::remove_file(&new))?;
            let mut out = File::create(&new)?;
            out.write_all(bytes)?;
            out.set_permissions(Permissions::from_mode(0o400))?;
            out.sync_all()?;
            fs::rename(&new, &file)?;
            for dir in [Some(&*dir), Some(&*self.dir), self.dir.parent()] {
                dir.map(File::open)
                    .transpose()?
                    .map_or(Ok(()), |dir| dir.sync_all())?;
            }
        }
        found(fs::remove_file(self.part(digest)))?;
        Ok(())
    }

    /// The bytes of a component that was kept; `None` = not here, or not those bytes any more.
    pub fn read(&self, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        let file = self.file(digest);
        let Some(bytes) = found(read(&file))? else {
            return Ok(None);
        };
        if Digest::of(&bytes) == *digest {
            return Ok(Some(bytes));
        }
        tracing::warn!(file = %file.display(), "not the component that was written here; it is not used");
        Ok(None)
    }

    /// Lets a component go.
    pub fn remove(&self, digest: &Digest) -> io::Result<()> {
        found(fs::remove_file(self.file(digest)))?;
        Ok(())
    }

    /// Lets go what nothing names: left by a process that ended between two steps.
    pub fn collect(&self, is_named: impl Fn(&Digest) -> bool) -> io::Result<()> {
        let Some(files) = found(fs::read_dir(self.dir.join("components")))? else {
            return Ok(());
        };
        for entry in files {
            let path = entry?.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            let digest = name.and_then(|name| name.parse::<Digest>().ok());
            if digest.is_some_and(|digest| !is_named(&digest)) {
                tracing::info!(file = %path.display(), "no plugin has this component; it is removed");
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = limits::COMPONENT as u64 + 1;
    File::open(file)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What is not there is no error.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_goes_on_where_it_stopped_and_wrong_bytes_are_thrown_away() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Components::new(dir.path().join("plugins"));
        let (bytes, digest) = (b"a component", Digest::of(b"a component"));
        assert_eq!(open().received(&digest).unwrap(), 0);
        assert_eq!(open().receive(&digest, 0, &bytes[..4]).unwrap(), 4);
        assert_eq!(open().receive(&digest, 0, bytes).unwrap(), 4, "not twice");
        assert_eq!(open().receive(&digest, 9, bytes).unwrap(), 4, "no hole");
        assert_eq!(open().receive(&digest, 4, b"XXXXXXX").unwrap(), 11);
        assert_eq!(open().take(&digest).unwrap(), None);
        assert_eq!(open().received(&digest).unwrap(), 0);
        open().receive(&digest, 0, &bytes[..4]).unwrap();
        assert_eq!(open().receive(&digest, 4, &bytes[4..]).unwrap(), 11);
        let taken = open().take(&digest).unwrap().unwrap();
        assert!(!open().is_whole(&digest));
        open().keep(&digest, &taken).unwrap();
        open().keep(&digest, &taken).unwrap();
        assert!(open().is_whole(&digest));
        assert_eq!(open().received(&digest).unwrap(), 11);
        assert_eq!(open().receive(&digest, 0, b"x").unwrap(), 11);
        assert_eq!(open().read(&digest).unwrap().unwrap(), bytes);
        // What is damaged is missing, and uploading brings it back.
        fs::remove_file(open().file(&digest)).unwrap();
        fs::write(open().file(&digest), b"a component?").unwrap();
        assert_eq!(open().read(&digest).unwrap(), None);
        assert_eq!(open().take(&digest).unwrap(), None);
        assert_eq!(open().received(&digest).unwrap(), 0);
        assert_eq!(open().receive(&digest, 0, bytes).unwrap(), 11);
        assert_eq!(open().take(&digest).unwrap().unwrap(), bytes);
        open().keep(&digest, bytes).unwrap();
        assert_eq!(open().read(&digest).unwrap().unwrap(), bytes);
        open().collect(|_| true).unwrap();
        assert!(open().is_whole(&digest));
        open().collect(|_| false).unwrap();
        assert!(!open().is_whole(&digest));
    }

    #[test]
    fn uploads_nobody_goes_on_with_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let components = Components::new(dir.path().to_owned());
        for number in 0..2 * limits::INCOMING {
            let digest = Digest::of(&number.to_le_bytes());
            components.receive(&digest, 0, b"begun").unwrap();
        }
        let parts = fs::read_dir(dir.path().join("incoming")).unwrap().count();
        assert_eq!(parts, limits::INCOMING);
    }
}
