//! Paths in texts: those a reader is told about exist, and none belongs to one machine only.

use crate::finding::{Finding, Hit};
use crate::lexer::numbered;

/// What a documented path is held against.
pub struct Known<'a> {
    /// Every file of the repository.
    pub files: &'a [String],
    /// Whether a path from the root is there, folders included.
    pub exists: &'a dyn Fn(&str) -> bool,
}

/// Folders that builds and runs make: a paper may name what is in them.
const PRODUCTS: &[&str] = &["target", "quern-data"];
const ENDINGS: &[&str] = &[".rs", ".md", ".toml", ".wit", ".sh"];

/// Paths between backticks in prose (fenced blocks are examples and drawings).
pub fn documented_paths(path: &str, text: &str, known: &Known<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut fenced = false;
    for (line, text) in numbered(text) {
        if text.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            for token in text.split('`').skip(1).step_by(2) {
                let missing = alternatives(token).into_iter().find(|t| !holds(t, known));
                findings.extend(missing.map(|what| Finding {
                    file: path.to_owned(),
                    hit: Hit::new(line, format!("`{what}` does not exist")),
                    rule: "documented-path",
                    fix: "write the path from the root as it is now, or remove it",
                }));
            }
        }
    }
    findings
}

/// `a/{b,c}.rs` stands for two paths.
fn alternatives(token: &str) -> Vec<String> {
    let split = token
        .split_once('{')
        .and_then(|(head, rest)| rest.split_once('}').map(|(list, tail)| (head, list, tail)));
    match split {
        Some((head, list, tail)) => list
            .split(',')
            .flat_map(|one| alternatives(&format!("{head}{}{tail}", one.trim())))
            .collect(),
        None => vec![token.to_owned()],
    }
}

/// True for what is no path of ours, and for what is there.
fn holds(token: &str, known: &Known<'_>) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let token = token.trim_start_matches("./").trim_end_matches('/');
    let Some((first, _)) = token.split_once('/') else {
        return true;
    };
    if first.is_empty() || PRODUCTS.contains(&first) || !token.chars().all(plain) {
        return true;
    }
    let ours = known
        .files
        .iter()
        .any(|f| f.strip_prefix(first).is_some_and(|r| r.starts_with('/')));
    let file = ENDINGS.iter().any(|e| token.ends_with(e));
    if ours {
        return (known.exists)(token);
    }
    !file || known.files.iter().any(|f| ends_like(f, token))
}

/// `store/segment.rs` is short for `host/store/src/segment.rs`.
fn ends_like(file: &str, token: &str) -> bool {
    let ends = |end: &str| {
        file.strip_suffix(end)
            .is_some_and(|head| head.is_empty() || head.ends_with('/'))
    };
    let inside_src = token
        .split_once('/')
        .is_some_and(|(room, rest)| ends(&format!("{room}/src/{rest}")));
    ends(token) || inside_src
}

/// Targets of relative Markdown links.
pub fn links(path: &str, text: &str, exists: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut findings = Vec::new();
    for (line, text) in numbered(text) {
        for (at, _) in text.match_indices("](") {
            let rest = &text[at + 2..];
            let target = rest.split([')', '#', ' ']).next().unwrap_or("");
            let outside = target.is_empty() || target.contains(':');
            let missing = match resolve(folder, target) {
                Some(inside) => !exists(&inside),
                None => true,
            };
            if !outside && missing {
                findings.push(Finding {
                    file: path.to_owned(),
                    hit: Hit::new(line, format!("the link to `{target}` leads nowhere")),
                    rule: "link",
                    fix: "link to a file of the repository, relative to this one",
                });
            }
        }
    }
    findings
}

/// A relative target as a path from the root; nothing if it leaves the repository.
fn resolve(folder: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|p| !p.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// Absolute paths that mean something on their author's machine only.
pub fn machine_paths(path: &str, text: &str) -> Vec<Finding> {
    // In pieces, or this file would be a finding.
    let roots = [
        concat!("/wo", "rk/"),
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
    ];
    let mut findings = Vec::new();
    for (line, text) in numbered(text) {
        for root in roots {
            let absolute = text.match_indices(root).any(|(at, _)| {
                let before = text[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || "._-/}~*".contains(c))
            });
            if absolute {
                findings.push(Finding {
                    file: path.to_owned(),
                    hit: Hit::new(line, format!("an absolute path in `{root}`")),
                    rule: "machine-path",
                    fix: "write the path relative to the repository, or take it from the environment",
                });
            }
        }
    }
    findings
}
