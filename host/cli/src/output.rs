//! Results on stdout: a table for people, JSON for programs.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use quern_client::TopicWaits;
use serde::Serialize;

use crate::failure::Failure;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// A table.
    Human,
    /// One JSON document.
    Json,
    /// One JSON document a line.
    Ndjson,
}

/// Rows under a heading, columns as wide as they must be; numbers to the right.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        widest.max(heading[column].chars().count())
    };
    let numeric = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column));
        cells.all(|cell| cell.starts_with(|c: char| c.is_ascii_digit()))
    };
    let heading_row: Vec<String> = heading.iter().map(|&cell| cell.to_owned()).collect();
    let mut out = String::new();
    for row in std::iter::once(&heading_row).chain(rows) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let (width, gap) = (width(column), if column == 0 { "" } else { "  " });
            let padded = if numeric(column) {
                format!("{gap}{cell:>width$}")
            } else {
                format!("{gap}{cell:<width$}")
            };
            line.push_str(&padded);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Prints rows in the form asked for. An empty table says so on stderr.
pub(crate) fn rows<T: Serialize>(
    output: Output,
    items: &[T],
    heading: &[&str],
    row: impl Fn(&T) -> Vec<String>,
    nothing: &str,
) -> Result<(), Failure> {
    let text = match output {
        Output::Human if items.is_empty() => {
            eprintln!("{nothing}");
            return Ok(());
        }
        Output::Human => table(heading, &items.iter().map(row).collect::<Vec<_>>()),
        Output::Json => json(&items)? + "\n",
        Output::Ndjson => {
            let lines: Result<Vec<String>, Failure> =
                items.iter().map(|item| Ok(line(item)? + "\n")).collect();
            lines?.concat()
        }
    };
    print(&text)
}

/// Asks a person to type a name before something is lost; a script has to say `--yes`.
pub(crate) fn confirm(what: &str, name: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(format!("{what}; say --yes if you mean it")));
    }
    eprint!("{what}; type its name to go on: ");
    let mut typed = String::new();
    io::stdin().read_line(&mut typed)?;
    match typed.trim() == name {
        true => Ok(()),
        false => Err(Failure::new(1, "nothing was done")),
    }
}

/// What waits, by its topic.
pub(crate) fn by_topic(waits: Vec<TopicWaits>) -> BTreeMap<String, u64> {
    let waits = waits.into_iter();
    waits
        .map(|it| (it.topic.to_string(), it.messages))
        .collect()
}

pub(crate) fn json<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|error| Failure::new(1, error.to_string()))
}

pub(crate) fn line<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::new(1, error.to_string()))
}

pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Writes to stdout; a reader that has gone (`| head`) ends the command quietly.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}

/// 12,345,678
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_go_right() {
        let rows = [
            vec!["a".to_owned(), "1".to_owned()],
            vec!["long".to_owned(), "1,000".to_owned()],
        ];
        assert_eq!(
            table(&["NAME", "N"], &rows),
            "NAME      N\na         1\nlong  1,000\n"
        );
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(12), "12");
    }
}
