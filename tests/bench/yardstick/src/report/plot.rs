//! A drawing for each work: a bar for each broker, as long as its main figure, shorter is better, with a
//! line from the least to the most of its repetitions. Plain SVG that fits light and dark pages.

use std::fmt::Write as _;

use super::table::number;
use super::{Cell, Figure, Report};
use crate::peers::OURS;
use crate::stats::Spread;
use crate::work::{Class, Work};

const WIDTH: f64 = 720.0;
/// Where bars begin, and how far the longest may go: a number stands behind it.
const LEFT: f64 = 110.0;
const LONGEST: f64 = 430.0;
const BAR: f64 = 22.0;
const STEP: f64 = 34.0;
const TOP: f64 = 62.0;

/// File name and content of each drawing.
pub(crate) fn drawings(report: &Report) -> Vec<(String, String)> {
    let cells = report.cells();
    let mut drawings = Vec::new();
    for class in [Class::Durable, Class::Cached] {
        for work in Work::ALL {
            let here = cells
                .iter()
                .filter(|it| it.class == class && it.work == work);
            let bars: Vec<Bar<'_>> = here.filter_map(Bar::of).collect();
            if bars.len() > 1 {
                let name = format!("{}-{work}.svg", class.name());
                drawings.push((name, drawing(class, work, &bars)));
            }
        }
    }
    drawings
}

struct Bar<'a> {
    peer: &'a str,
    figure: Spread,
    is_noisy: bool,
}

impl<'a> Bar<'a> {
    fn of(cell: &'a Cell<'_>) -> Option<Self> {
        Some(Self {
            peer: cell.peer,
            figure: cell.spread(Figure::main(cell.work))?,
            is_noisy: cell.is_noisy(),
        })
    }
}

/// What the main figure is, for people.
fn unit(work: Work) -> &'static str {
    match Figure::main(work) {
        Figure::Seconds => "seconds",
        Figure::Anonymous => "MiB of memory that is no file's",
        Figure::EndP50 => "µs, median from due to received",
        Figure::Connection => "KiB of the broker's memory for each connection",
        Figure::Each => "µs per message",
        _ => "µs of the broker's processor time per message",
    }
}

fn drawing(class: Class, work: Work, bars: &[Bar<'_>]) -> String {
    let height = TOP + STEP * bars.len() as f64 + 12.0;
    let most = bars
        .iter()
        .map(|it| it.figure.max)
        .fold(f64::MIN_POSITIVE, f64::max);
    let length = |value: f64| value / most * LONGEST;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"14\">\n\
         <style>text {{ fill: #24292f }} .bar {{ fill: #8c959f }} .ours {{ fill: #b35900 }} .ends {{ stroke: #24292f }} \
         @media (prefers-color-scheme: dark) {{ text {{ fill: #d0d7de }} .ends {{ stroke: #d0d7de }} .bar {{ fill: #6e7781 }} \
         .ours {{ fill: #e0823d }} }}</style>\n"
    );
    let _ = writeln!(
        out,
        "<title>{}, {}</title>",
        escaped(&work.says()),
        class.says()
    );
    let _ = writeln!(
        out,
        "<text x=\"8\" y=\"22\" font-weight=\"600\">{}</text>",
        escaped(&work.says())
    );
    let _ = writeln!(
        out,
        "<text x=\"8\" y=\"42\" font-size=\"12\">{}; {}; shorter is better</text>",
        class.says(),
        unit(work)
    );
    for (at, bar) in bars.iter().enumerate() {
        let y = TOP + STEP * at as f64;
        let middle = y + BAR / 2.0;
        let class = if bar.peer == OURS { "ours" } else { "bar" };
        let (least, median, end) = (
            length(bar.figure.min),
            length(bar.figure.median),
            length(bar.figure.max),
        );
        let _ = writeln!(
            out,
            "<text x=\"8\" y=\"{:.1}\">{}</text>",
            middle + 5.0,
            escaped(bar.peer)
        );
        let _ = writeln!(
            out,
            "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\"/>",
            median.max(1.0)
        );
        if bar.figure.min < bar.figure.max {
            let _ = writeln!(
                out,
                "<line class=\"ends\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke-width=\"2\"/>",
                LEFT + least,
                LEFT + end
            );
        }
        let noise = if bar.is_noisy { " (noisy)" } else { "" };
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\">{}{noise}</text>",
            LEFT + end + 8.0,
            middle + 5.0,
            number(bar.figure.median)
        );
    }
    out + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{report, window};
    use super::*;

    #[test]
    fn bars_are_in_proportion_and_ours_stands_out() {
        let windows = vec![
            window(OURS, 1, 5.0),
            window("nats", 1, 10.0),
            window("kafka", 1, 2.5),
        ];
        let report = report(windows);
        let drawings = drawings(&report);
        assert_eq!(drawings.len(), 1);
        let (name, svg) = &drawings[0];
        assert_eq!(name, "durable-produce-64.svg");
        for (class, width) in [("ours", 215.0), ("bar", 430.0), ("bar", 107.5)] {
            let wanted = format!("class=\"{class}\" x=\"110\"");
            let drawn = svg
                .lines()
                .any(|it| it.contains(&wanted) && it.contains(&format!("width=\"{width:.1}\"")));
            assert!(drawn, "{class} {width}: {svg}");
        }
    }

    #[test]
    fn one_broker_alone_is_no_comparison() {
        assert!(drawings(&report(vec![window(OURS, 1, 5.0)])).is_empty());
    }
}
