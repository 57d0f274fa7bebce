//! The table of RocketMQ's features: valid rows, unique and sorted ids, counts that are right.

use crate::finding::{Finding, Hit};
use crate::lexer::numbered;

const FILE: &str = "docs/compatibility.md";

/// How many rows have which status.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub works: usize,
    pub improved: usize,
    pub planned: usize,
    pub not_applicable: usize,
}

impl Counts {
    /// The sentence the paper shows above its tables.
    pub fn sentence(&self) -> String {
        format!(
            "works {} · improved {} · planned {} · not applicable {}",
            self.works, self.improved, self.planned, self.not_applicable
        )
    }
}

struct Row<'a> {
    line: usize,
    cells: Vec<&'a str>,
}

/// Rows are table lines that are neither a heading nor its rule.
fn rows(text: &str) -> Vec<Row<'_>> {
    numbered(text)
        .filter(|(_, l)| l.starts_with('|') && !l.starts_with("| id ") && !l.starts_with("|-"))
        .map(|(line, l)| Row {
            line,
            cells: l.trim_matches('|').split(" | ").map(str::trim).collect(),
        })
        .collect()
}

fn status_is_valid(status: &str) -> bool {
    ["works", "planned", "not applicable"].contains(&status)
        || status
            .strip_prefix("improved because ")
            .is_some_and(|reason| reason.len() >= 10)
}

/// An id is letters, a hyphen and two digits: `NS-01`.
fn id_is_valid(id: &str) -> bool {
    id.split_once('-').is_some_and(|(group, number)| {
        group.len() >= 2
            && group.bytes().all(|b| b.is_ascii_uppercase())
            && number.len() == 2
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

pub fn counts(text: &str) -> Counts {
    let mut counts = Counts::default();
    for row in rows(text) {
        match row.cells.get(2).copied().unwrap_or("") {
            "works" => counts.works += 1,
            "planned" => counts.planned += 1,
            "not applicable" => counts.not_applicable += 1,
            _ => counts.improved += 1,
        }
    }
    counts
}

pub fn compatibility(text: &str) -> Vec<Finding> {
    let rows = rows(text);
    let mut hits = Vec::new();
    if rows.is_empty() {
        hits.push(Hit::new(0, "there is no row"));
    }
    let mut seen: Vec<&str> = Vec::new();
    for row in &rows {
        if row.cells.len() != 4 {
            let what = format!("{} cells, not 4", row.cells.len());
            hits.push(Hit::new(row.line, what));
            continue;
        }
        let (id, status) = (row.cells[0], row.cells[2]);
        if !id_is_valid(id) {
            hits.push(Hit::new(row.line, format!("`{id}` is no id")));
        }
        if seen.contains(&id) {
            hits.push(Hit::new(row.line, format!("`{id}` is there twice")));
        }
        let group = |id: &str| id.split('-').next().map(str::to_owned);
        let same_group = seen.last().filter(|last| group(last) == group(id));
        if same_group.is_some_and(|last| *last > id) {
            hits.push(Hit::new(row.line, format!("`{id}` is out of order")));
        }
        if !status_is_valid(status) {
            hits.push(Hit::new(row.line, format!("`{status}` is no status")));
        }
        seen.push(id);
    }
    let sentence = counts(text).sentence();
    if !text.contains(&sentence) {
        hits.push(Hit::new(0, format!("the counts are not `{sentence}`")));
    }
    hits.into_iter()
        .map(|hit| Finding {
            file: FILE.to_owned(),
            hit,
            rule: "compatibility",
            fix: "| id | feature | works, planned, not applicable or `improved because …` | notes |",
        })
        .collect()
}
