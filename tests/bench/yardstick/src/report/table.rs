//! The report for people: a table for each work, in Markdown that reads well as it is.

use std::fmt::Write as _;

use super::{Cell, Figure, NOISY, Report, goals};
use crate::ceilings::Ceilings;
use crate::peers::OURS;
use crate::stats::Spread;
use crate::turn::Window;
use crate::work::{Class, Work};

/// Letters of a note; the whole is in the JSON file.
const NOTE: usize = 100;

/// Figures that a work shows.
fn columns(work: Work) -> &'static [(&'static str, Figure)] {
    match work {
        Work::Start | Work::Restart => &[("seconds", Figure::Seconds), ("RSS MiB", Figure::Rss)],
        Work::Idle => &[
            ("anonymous MiB", Figure::Anonymous),
            ("RSS MiB", Figure::Rss),
            ("share of a core", Figure::IdleCore),
        ],
        Work::Connections { .. } => &[
            ("KiB each", Figure::Connection),
            ("anonymous MiB", Figure::Anonymous),
            ("share of a core", Figure::IdleCore),
        ],
        Work::LossyProduce => &[
            ("µs each", Figure::Each),
            ("msg/s", Figure::PerSecond),
            ("p50 µs", Figure::AckP50),
            ("p99 µs", Figure::AckP99),
            ("max µs", Figure::AckMax),
            ("broker CPU µs", Figure::BrokerCpu),
        ],
        Work::LossyDrain => &[
            ("µs each", Figure::Each),
            ("msg/s", Figure::PerSecond),
            ("broker CPU µs", Figure::BrokerCpu),
        ],
        Work::Warm | Work::Produce { .. } | Work::Batches { .. } | Work::Topics { .. } => &[
            ("msg/s", Figure::PerSecond),
            ("p50 µs", Figure::AckP50),
            ("p99 µs", Figure::AckP99),
            ("p99.9 µs", Figure::AckP999),
            ("max µs", Figure::AckMax),
            ("broker CPU µs", Figure::BrokerCpu),
            ("client CPU µs", Figure::ClientCpu),
            ("written ÷ bodies", Figure::Written),
            ("peak RSS MiB", Figure::Peak),
        ],
        Work::Drain(_) => &[
            ("examined/s", Figure::PerSecond),
            ("broker CPU µs", Figure::BrokerCpu),
            ("client CPU µs", Figure::ClientCpu),
        ],
        Work::FanOut { .. } => &[
            ("delivered/s", Figure::PerSecond),
            ("broker CPU µs", Figure::BrokerCpu),
            ("client CPU µs", Figure::ClientCpu),
        ],
        Work::EndToEnd { .. } => &[
            ("end to end p50 µs", Figure::EndP50),
            ("p99 µs", Figure::EndP99),
            ("p99.9 µs", Figure::EndP999),
            ("max µs", Figure::EndMax),
            ("acknowledged p50 µs", Figure::AckP50),
            ("p99 µs", Figure::AckP99),
            ("broker CPU µs", Figure::BrokerCpu),
        ],
    }
}

/// A number with as many digits as mean something.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        it if it >= 1_000.0 => {
            let digits = format!("{value:.0}");
            let mut out = String::new();
            for (at, digit) in digits.chars().enumerate() {
                if at > 0 && (digits.len() - at).is_multiple_of(3) {
                    out.push(' ');
                }
                out.push(digit);
            }
            out
        }
        it if it >= 100.0 => format!("{value:.0}"),
        it if it >= 10.0 => format!("{value:.1}"),
        it if it >= 0.0095 || it == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// The middle, and the ends where there are several.
fn spread(spread: Option<Spread>) -> String {
    match spread {
        None => "–".to_owned(),
        Some(it) if it.min == it.max => number(it.median),
        Some(it) => format!(
            "{} ({} … {})",
            number(it.median),
            number(it.min),
            number(it.max)
        ),
    }
}

fn row(cell: &Cell<'_>, work: Work) -> Vec<String> {
    let mut row = vec![cell.peer.to_owned()];
    row.extend(
        columns(work)
            .iter()
            .map(|(_, figure)| spread(cell.spread(*figure))),
    );
    let ratio = cell.ratio(Figure::main(work)).filter(|_| cell.peer != OURS);
    row.push(ratio.map_or_else(String::new, |it| number(it.median)));
    let mut notes = Vec::new();
    if let Some(error) = cell.error() {
        notes.push(error.replace('|', "/").chars().take(NOTE).collect());
    }
    if cell.failed() > 0 {
        notes.push(format!("{} messages failed", cell.failed()));
    }
    if cell.is_noisy() {
        notes.push("noisy".to_owned());
    }
    row.push(notes.join("; "));
    row
}

/// Columns as wide as what is in them.
fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let width = |at: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(at))
            .chain(head.get(at));
        cells.map(|it| it.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &[String]| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let mut out = line(head) + &line(&rule);
    for row in rows {
        out += &line(row);
    }
    out
}

/// The whole report.
pub(crate) fn markdown(report: &Report) -> String {
    let mut out = heading(report);
    let goals = goals::rows(report);
    if !goals.is_empty() {
        let head = goals::HEAD.map(str::to_owned);
        let _ = writeln!(out, "\n## Goals\n\n{}", table(&head, &goals));
    }
    let cells = report.cells();
    for class in [Class::Durable, Class::Cached] {
        let here = || cells.iter().filter(move |it| it.class == class);
        if here().next().is_none() {
            continue;
        }
        let _ = writeln!(out, "\n## {}\n", capital(class.says()));
        for peer in &report.measured {
            let setting = match class {
                Class::Durable => peer.durable,
                Class::Cached => peer.cached,
            };
            let _ = writeln!(out, "- {} {}: `{setting}`", peer.name, peer.version);
        }
        let all: Vec<&Cell<'_>> = here().collect();
        let _ = writeln!(out, "\n{}", summary(report, &all));
        for work in Work::ALL {
            let rows: Vec<Vec<String>> = here()
                .filter(|it| it.work == work)
                .map(|it| row(it, work))
                .collect();
            if rows.is_empty() {
                continue;
            }
            let main = Figure::main(work);
            let main = columns(work)
                .iter()
                .find(|(_, it)| *it == main)
                .map_or("", |(name, _)| name);
            let mut head = vec!["broker".to_owned()];
            head.extend(columns(work).iter().map(|(name, _)| (*name).to_owned()));
            head.push(format!("{main}: ours ÷ theirs"));
            head.push("note".to_owned());
            let _ = writeln!(
                out,
                "\n### {}\n\n{}",
                capital(&work.says()),
                table(&head, &rows)
            );
        }
    }
    out
}

/// All works of a class on one screen: ours, and ours divided by theirs.
fn summary(report: &Report, cells: &[&Cell<'_>]) -> String {
    let others: Vec<&str> = report
        .measured
        .iter()
        .map(|it| it.name)
        .filter(|it| *it != OURS)
        .collect();
    let mut head = vec![
        "less is better".to_owned(),
        "figure".to_owned(),
        OURS.to_owned(),
    ];
    head.extend(others.iter().map(|peer| format!("÷ {peer}")));
    let row = |work: Work| {
        let find = |peer: &str| cells.iter().find(|it| it.work == work && it.peer == peer);
        let main = Figure::main(work);
        let ours = find(OURS)?.spread(main)?;
        let name = columns(work).iter().find(|(_, it)| *it == main)?.0;
        let mut row = vec![work.says(), name.to_owned(), number(ours.median)];
        row.extend(others.iter().map(|peer| {
            let ratio = find(peer).and_then(|it| it.ratio(main));
            ratio.map_or_else(|| "–".to_owned(), |it| number(it.median))
        }));
        Some(row)
    };
    let rows: Vec<Vec<String>> = Work::ALL.into_iter().filter_map(row).collect();
    if rows.is_empty() || others.is_empty() {
        return String::new();
    }
    table(&head, &rows)
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |it| it.to_uppercase().chain(letters).collect())
}

fn heading(report: &Report) -> String {
    let machine = &report.machine;
    let mut out = format!(
        "{}, {} cores, {} MiB of memory, Linux {}, {}; {}; {} repetitions of {} s after {} s of load\n\n`{}`\n",
        machine.processor,
        machine.cores,
        machine.memory_mib,
        machine.kernel,
        machine.file_system,
        report.began,
        report.repetitions,
        report.measure.seconds,
        report.measure.warm_seconds,
        report.command,
    );
    for skipped in &report.skipped {
        let _ = writeln!(out, "\nSKIPPED {}: {}", skipped.name, skipped.why);
    }
    for broke in &report.broke_off {
        let (name, class) = (broke.name, broke.class.name());
        let (repetition, why) = (broke.repetition, &broke.why);
        let _ = writeln!(
            out,
            "\nBROKE OFF {name}, {class}, repetition {repetition}: {why}"
        );
    }
    if !report.is_complete {
        let why = report.ended_by.as_deref().unwrap_or("not over yet");
        let _ = writeln!(out, "\nINCOMPLETE: {why}. What follows is part of a run.");
    }
    if report.is_noisy() {
        let _ = writeln!(
            out,
            "\nNOISY: the ceilings of the machine changed by more than {NOISY} times during the run; trust ratios at most."
        );
    }
    let ceilings = Ceilings::spreads(&report.ceilings);
    let rows: Vec<Vec<String>> = ceilings
        .into_iter()
        .map(|(name, it)| vec![name.to_owned(), spread(Some(it))])
        .collect();
    let head = [
        "ceiling of this machine, measured before every turn",
        "median (min … max)",
    ];
    let _ = writeln!(out, "\n{}", table(&head.map(str::to_owned), &rows));
    out
}

/// A window as it is told while the run goes on.
pub(crate) fn line(window: &Window) -> String {
    let main = Figure::main(window.work);
    let mut out = format!("{:<16}", window.work.to_string());
    for (name, figure) in columns(window.work) {
        if let Some(value) = figure.of(window) {
            let mark = if *figure == main { "*" } else { "" };
            let _ = write!(out, "  {name} {}{mark}", number(value));
        }
    }
    if window.is_noisy {
        let _ = write!(out, "  (others took {:.0} %)", window.others * 100.0);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::{report, window};
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        let cases = [
            (0.0, "0.00"),
            (0.00012, "0.0001"),
            (0.5, "0.50"),
            (12.34, "12.3"),
            (999.4, "999"),
            (1_234_567.8, "1 234 568"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_summary_holds_ours_against_each_of_the_others() {
        let windows = vec![window(OURS, 1, 5.0), window("nats", 1, 2.5)];
        let mut report = report(windows);
        for name in [OURS, "nats", "kafka"] {
            report.measured.push(crate::report::Measured {
                name,
                version: "1".to_owned(),
                durable: "",
                cached: "",
            });
        }
        let text = markdown(&report);
        let head = text.lines().find(|line| line.contains("less is better"));
        assert!(
            head.is_some_and(|it| it.contains("÷ nats | ÷ kafka")),
            "{text}"
        );
        let row = text
            .lines()
            .find(|line| line.starts_with("| produce 1 KiB, 64"));
        let cells: Vec<&str> = row.unwrap_or_default().split('|').map(str::trim).collect();
        assert!(cells.ends_with(&["5.00", "2.00", "–", ""]), "{text}");
    }

    #[test]
    fn a_report_names_losses_skips_and_noise() {
        let mut lost = window("nats", 1, 2.5);
        lost.failed = 3;
        let mut report = report(vec![window(OURS, 1, 5.0), lost]);
        report.skipped.push(crate::report::Skipped {
            name: "kafka",
            why: "needs `java`, which is not there".to_owned(),
        });
        report.broke_off.push(crate::report::BrokeOff {
            name: "nats",
            class: Class::Durable,
            repetition: 1,
            why: "it did not come up".to_owned(),
        });
        report.is_complete = false;
        report.ended_by = Some("interrupted".to_owned());
        let text = markdown(&report);
        assert!(text.contains("SKIPPED kafka: needs `java`"), "{text}");
        assert!(
            text.contains("BROKE OFF nats, durable, repetition 1: it did not come up"),
            "{text}"
        );
        assert!(text.contains("INCOMPLETE: interrupted."), "{text}");
        assert!(!text.contains("NOISY"), "{text}");
        let nats = text.lines().find(|line| line.starts_with("| nats"));
        let cells: Vec<&str> = nats.unwrap_or_default().split('|').map(str::trim).collect();
        assert!(
            cells.ends_with(&["2.00", "3 messages failed", ""]),
            "{text}"
        );
        assert!(text.contains("### Produce 1 KiB, 64 in flight"), "{text}");
    }
}
