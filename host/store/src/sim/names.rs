//! Names of a simulated disk: as programs see them, and as a crash may leave them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use fastrand::Rng;

use super::not_found;

/// Which inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ino(pub(super) u64);

type Table = BTreeMap<PathBuf, Ino>;

/// A change that is not durable yet. Each happens or not; none happens by half.
#[derive(Debug, Clone)]
enum Change {
    Link(PathBuf, Ino),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, Ino),
}

impl Change {
    fn apply(&self, table: &mut Table) {
        match self {
            Self::Link(path, ino) => drop(table.insert(path.clone(), *ino)),
            Self::Unlink(path) => drop(table.remove(path)),
            Self::Rename(from, to, ino) => {
                if table.get(from) == Some(ino) {
                    table.remove(from);
                }
                table.insert(to.clone(), *ino);
            }
        }
    }

    fn is_in(&self, dir: &Path) -> bool {
        let (Self::Link(path, _) | Self::Unlink(path) | Self::Rename(_, path, _)) = self;
        path.parent() == Some(dir)
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    now: Table,
    durable: Table,
    pending: Vec<Change>,
    /// Durable once they are made; so says [`crate::fs::Fs::create_dir`].
    dirs: BTreeSet<PathBuf>,
}

fn is_root(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.parent().is_none()
}

impl Names {
    pub(super) fn get(&self, path: &Path) -> Option<Ino> {
        self.now.get(path).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Path, Ino)> {
        self.now.iter().map(|(path, ino)| (path.as_path(), *ino))
    }

    /// Whether programs see the inode under some name.
    pub(super) fn shows(&self, ino: Ino) -> bool {
        self.now.values().any(|it| *it == ino)
    }

    /// Whether the inode has a name, or may have one after a crash.
    pub(super) fn holds(&self, ino: Ino) -> bool {
        let pending = self.pending.iter().any(|change| match change {
            Change::Link(_, it) | Change::Rename(_, _, it) => *it == ino,
            Change::Unlink(_) => false,
        });
        pending
            || self
                .now
                .values()
                .chain(self.durable.values())
                .any(|it| *it == ino)
    }

    pub(super) fn check_parent(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(dir) if is_root(dir) || self.dirs.contains(dir) => Ok(()),
            _ => Err(not_found()),
        }
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        for dir in path.ancestors().filter(|dir| !is_root(dir)) {
            if self.now.contains_key(dir) {
                return Err(io::ErrorKind::NotADirectory.into());
            }
        }
        let dirs = path.ancestors().filter(|dir| !is_root(dir));
        self.dirs.extend(dirs.map(Path::to_owned));
        Ok(())
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if !self.dirs.contains(dir) && !is_root(dir) {
            return Err(not_found());
        }
        let all = self.now.keys().chain(self.dirs.iter());
        let inside = all.filter(|path| path.parent() == Some(dir));
        let mut names: Vec<String> = inside
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    pub(super) fn link(&mut self, path: &Path, ino: Ino) {
        self.change(Change::Link(path.to_owned(), ino));
    }

    pub(super) fn unlink(&mut self, path: &Path) {
        self.change(Change::Unlink(path.to_owned()));
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) {
        if let Some(ino) = self.get(from) {
            self.change(Change::Rename(from.to_owned(), to.to_owned(), ino));
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.pending.push(change);
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync(&mut self, dir: &Path) {
        let (here, elsewhere) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|change: &Change| change.is_in(dir));
        self.pending = elsewhere;
        let here: Vec<Change> = here;
        here.iter()
            .for_each(|change| change.apply(&mut self.durable));
    }

    pub(super) fn crash(&self, random: &mut Rng) -> Self {
        let mut table = self.durable.clone();
        for change in &self.pending {
            if random.bool() {
                change.apply(&mut table);
            }
        }
        Self {
            now: table.clone(),
            durable: table,
            pending: Vec::new(),
            dirs: self.dirs.clone(),
        }
    }
}
