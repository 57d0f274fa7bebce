//! The repository's own files. Guarantees: what version control ignores is never looked at, and the
//! list is the same with and without git (a source archive has none).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lexer::RustText;

/// Folders that builds and runs make; skipped when git cannot be asked.
const PRODUCTS: &[&str] = &["target", ".git", "quern-data"];

/// A text file of the repository; the path is relative and uses `/`.
pub struct TextFile {
    pub path: String,
    pub text: String,
}

/// All text files of the repository, sorted by path.
pub struct Tree {
    pub root: PathBuf,
    pub files: Vec<TextFile>,
}

impl Tree {
    /// Reads the repository this crate stands in.
    pub fn open() -> io::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .canonicalize()?;
        let mut paths = match git_files(&root) {
            Some(paths) => paths,
            None => walk(&root)?,
        };
        paths.sort();
        paths.dedup();
        let mut files = Vec::new();
        for path in paths {
            // A file that vanished since the listing, or that is not text, has no rules.
            if let Ok(text) = fs::read_to_string(root.join(&path)) {
                files.push(TextFile { path, text });
            }
        }
        Ok(Self { root, files })
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        self.files
            .iter()
            .find(|f| f.path == path)
            .map(|f| f.text.as_str())
    }

    pub fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    pub fn rust(&self) -> Vec<RustText> {
        self.files
            .iter()
            .filter(|f| f.path.ends_with(".rs"))
            .map(|f| RustText::new(&f.path, &f.text))
            .collect()
    }
}

/// Tracked files and new ones that are not ignored; nothing if git does not know this tree.
fn git_files(root: &Path) -> Option<Vec<String>> {
    let out = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["ls-files", "-z", "--cached", "--others"])
        .arg("--exclude-standard")
        .output()
        .ok()?;
    let list = String::from_utf8(out.stdout).ok()?;
    let paths: Vec<String> = list
        .split('\0')
        .filter(|p| !p.is_empty())
        .map(str::to_owned)
        .collect();
    let ours = out.status.success() && paths.iter().any(|p| p == "Cargo.toml");
    ours.then_some(paths)
}

fn walk(root: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type()?;
            if kind.is_dir() && !PRODUCTS.contains(&name.as_str()) {
                folders.push(format!("{folder}{name}/"));
            } else if kind.is_file() {
                found.push(format!("{folder}{name}"));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_finds_what_git_lists() {
        let tree = Tree::open().unwrap();
        let walked = walk(&tree.root).unwrap();
        for file in &tree.files {
            assert!(walked.contains(&file.path), "{} not walked", file.path);
        }
        assert!(tree.text("Cargo.toml").is_some());
    }
}
