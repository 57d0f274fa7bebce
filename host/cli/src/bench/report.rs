//! What a run found, beside its ceilings and the goals.

use serde::Serialize;

use super::ceilings::Ceilings;
use super::crowd::Crowd;
use super::end_to_end::{EndToEnd, Way};
use super::load::{Consumed, Produced};
use super::plugins::Held;
use crate::failure::Failure;
use crate::output::{self, Output, table, thousands};

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) ceilings: Ceilings,
    pub(crate) produce: Vec<Produced>,
    pub(crate) consume: Vec<Consumed>,
    pub(crate) end_to_end: Vec<EndToEnd>,
    pub(crate) crowds: Vec<Crowd>,
    pub(crate) plugins: Vec<Held>,
    pub(crate) status_per_s: Option<f64>,
}

/// A figure held against what would be possible.
#[derive(Debug, Serialize)]
struct Ratio {
    what: &'static str,
    ours: f64,
    ceiling: f64,
    ratio: f64,
    goal: &'static str,
}

fn us(us: f64) -> String {
    if us < 10_000.0 {
        format!("{us:.0} µs")
    } else {
        format!("{:.1} ms", us / 1e3)
    }
}

fn per_s(rate: f64) -> String {
    thousands(rate as u64)
}

impl Report {
    pub(crate) fn print(&self, output: Output) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Whole<'a> {
            #[serde(flatten)]
            report: &'a Report,
            ratios: Vec<Ratio>,
        }
        let whole = Whole {
            report: self,
            ratios: self.ratios(),
        };
        match output {
            Output::Human => output::print(&self.human(&whole.ratios)),
            Output::Json => output::print(&(output::json(&whole)? + "\n")),
            Output::Ndjson => output::print(&(output::line(&whole)? + "\n")),
        }
    }

    fn with(&self, in_flight: usize) -> Option<&Produced> {
        self.produce.iter().find(|it| it.in_flight == in_flight)
    }

    fn ratios(&self) -> Vec<Ratio> {
        let ceilings = &self.ceilings;
        let mut ratios = Vec::new();
        let mut hold = |what, ours: f64, ceiling: f64, goal| {
            ratios.push(Ratio {
                what,
                ours,
                ceiling,
                ratio: ours / ceiling,
                goal,
            });
        };
        if let Some(one) = self.with(1) {
            let alone = ceilings.sync_p50_us + ceilings.round_trip_p50_us;
            let what = "one in flight, p50 µs : sync + QUIC round trip";
            hold(what, one.latency.p50_us, alone, "<= 1.5");
        }
        if let Some(some) = self.with(16) {
            let what = "16 in flight, msg/s : one sync after the other";
            hold(what, some.per_s, 1e6 / ceilings.sync_p50_us, ">= 1.0");
        }
        if let Some(most) = self
            .produce
            .iter()
            .max_by(|a, b| a.per_s.total_cmp(&b.per_s))
        {
            let what = "durable, msg/s : raw append with background sync";
            hold(what, most.per_s, ceilings.append_per_s, ">= 0.4");
            let lower = ceilings.append_per_s.min(ceilings.quic_per_s);
            let what = "durable over QUIC, msg/s : the lower of both raw";
            hold(what, most.per_s, lower, ">= 0.4");
        }
        let is_paced = |it: &&EndToEnd| it.asked_per_s.is_some() && it.way == Way::Push;
        if let Some(paced) = self.end_to_end.iter().rfind(is_paced) {
            let (latency, acknowledged) = (&paced.latency, &paced.acknowledged);
            let beyond = latency.p50_us - acknowledged.p50_us;
            hold(
                "paced, p50 µs beyond the acknowledgement's : 500",
                beyond,
                500.0,
                "<= 1.0",
            );
            let alone = ceilings.sync_p50_us + ceilings.round_trip_p50_us;
            let what = "paced, end to end p50 µs : sync + QUIC round trip";
            hold(what, latency.p50_us, alone, "<= 2");
            let alone = ceilings.sync_p99_us + ceilings.round_trip_p99_us;
            let what = "paced, end to end p99 µs : sync p99 + QUIC round trip p99";
            hold(what, latency.p99_us, alone, "<= 2");
        }
        if let Some(rate) = self.status_per_s {
            let what = "small requests, 128 in flight : raw framed stream";
            hold(what, rate, ceilings.frames_per_s, ">= 0.43");
        }
        if let Some(some) = self.with(256) {
            let what = "256 in flight, broker CPU µs a message : 10";
            hold(what, some.broker_cpu_us, 10.0, "<= 1.0");
        }
        ratios
    }

    fn human(&self, ratios: &[Ratio]) -> String {
        let c = &self.ceilings;
        let mut out = format!(
            "ceilings   write + fdatasync {}, p99 {} · append with background sync {} msg/s\n           QUIC round trip {}, p99 {} · QUIC batches {} msg/s · QUIC small frames {}/s\n\n",
            us(c.sync_p50_us),
            us(c.sync_p99_us),
            per_s(c.append_per_s),
            us(c.round_trip_p50_us),
            us(c.round_trip_p99_us),
            per_s(c.quic_per_s),
            per_s(c.frames_per_s)
        );
        if !self.produce.is_empty() {
            out += &table(
                &[
                    "IN FLIGHT",
                    "MSG/S",
                    "MB/S",
                    "P50",
                    "P99",
                    "P99.9",
                    "MAX",
                    "BROKER CPU",
                    "CLIENT CPU",
                    "RSS",
                ],
                &self.produce.iter().map(produced).collect::<Vec<_>>(),
            );
        }
        if !self.consume.is_empty() {
            out += &table(
                &[
                    "FILTER",
                    "MESSAGES",
                    "MSG/S",
                    "MB/S",
                    "LOOKED AT/S",
                    "BROKER CPU",
                ],
                &self.consume.iter().map(consumed).collect::<Vec<_>>(),
            );
        }
        if !self.end_to_end.is_empty() {
            out += &self.ends();
        }
        if !self.crowds.is_empty() {
            out += &crowds(&self.crowds);
        }
        if !self.plugins.is_empty() {
            let rows: Vec<_> = self.plugins.iter().map(held).collect();
            out += &table(&["PLUGINS", "MEASURED", "GOAL", "", ""], &rows);
        }
        if !ratios.is_empty() {
            let rows: Vec<Vec<String>> = ratios
                .iter()
                .map(|it| {
                    vec![
                        it.what.to_owned(),
                        per_s(it.ours),
                        per_s(it.ceiling),
                        format!("{:.2}", it.ratio),
                        it.goal.to_owned(),
                    ]
                })
                .collect();
            out.push('\n');
            out += &table(&["HELD AGAINST", "OURS", "CEILING", "RATIO", "GOAL"], &rows);
        }
        out
    }

    fn ends(&self) -> String {
        let rows: Vec<_> = self.end_to_end.iter().map(end_to_end).collect();
        table(
            &[
                "PACE",
                "DELIVERY",
                "MESSAGES",
                "MSG/S",
                "ACK P50",
                "ACK P99",
                "P50",
                "P99",
                "P99.9",
                "MAX",
                "BROKER CPU",
                "CLIENT CPU",
            ],
            &rows,
        )
    }
}

fn crowds(crowds: &[Crowd]) -> String {
    let row = |it: &Crowd| {
        vec![
            it.what.clone(),
            thousands(it.queues as u64),
            format!("{:.1} s", it.start_s),
            format!("{:.2} %", it.idle_cpu_percent),
            format!("{:.0} MB", it.broker_rss_mb),
            format!("{:.0} kB", it.rss_kb_each),
            it.delivered_cpu_us
                .map_or_else(|| "-".to_owned(), |us| format!("{us:.2} µs")),
        ]
    };
    let rows: Vec<_> = crowds.iter().map(row).collect();
    table(
        &[
            "CROWD",
            "QUEUES",
            "START",
            "IDLE CPU",
            "RSS",
            "MORE EACH",
            "CPU OF A DELIVERY",
        ],
        &rows,
    )
}

fn held(it: &Held) -> Vec<String> {
    let figure = |value: f64| format!("{value:.2} {}", it.unit);
    let verdict = if it.measured <= it.goal {
        "reached"
    } else {
        "MISSED"
    };
    vec![
        it.what.clone(),
        figure(it.measured),
        figure(it.goal),
        verdict.to_owned(),
        it.more.clone(),
    ]
}

fn produced(it: &Produced) -> Vec<String> {
    vec![
        thousands(it.in_flight as u64),
        per_s(it.per_s),
        format!("{:.1}", it.mb_per_s),
        us(it.latency.p50_us),
        us(it.latency.p99_us),
        us(it.latency.p999_us),
        us(it.latency.max_us),
        format!("{:.2} µs", it.broker_cpu_us),
        format!("{:.2} µs", it.client_cpu_us),
        format!("{:.0} MB", it.broker_rss_mb),
    ]
}

fn consumed(it: &Consumed) -> Vec<String> {
    vec![
        it.filter.clone(),
        thousands(it.messages),
        per_s(it.per_s),
        format!("{:.1}", it.mb_per_s),
        per_s(it.scanned_per_s),
        format!("{:.2} µs", it.broker_cpu_us),
    ]
}

fn end_to_end(it: &EndToEnd) -> Vec<String> {
    let latency = &it.latency;
    vec![
        it.asked_per_s
            .map_or_else(|| "256 in flight".to_owned(), |pace| format!("{pace}/s")),
        it.way.name().to_owned(),
        thousands(it.messages),
        per_s(it.per_s),
        us(it.acknowledged.p50_us),
        us(it.acknowledged.p99_us),
        us(latency.p50_us),
        us(latency.p99_us),
        us(latency.p999_us),
        us(latency.max_us),
        format!("{:.2} µs", it.broker_cpu_us),
        format!("{:.2} µs", it.client_cpu_us),
    ]
}
