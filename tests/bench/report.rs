//! What was measured, as tables for people or as JSON.

use serde_json::{Value, json};

use crate::{
    backlog,
    figures::{median, table},
    latency, machine,
    subject::Subject,
    transactions,
    workload::EVENT_BYTES,
};

/// Figures of all runs.
pub struct Report {
    machine: Vec<(&'static str, String)>,
    rounds: usize,
    pub backlog: Vec<(Subject, backlog::Figures)>,
    pub latency: Vec<(Subject, latency::Figures)>,
    pub transactions: Vec<(usize, transactions::Figures)>,
}

type Figure<F> = (&'static str, usize, fn(&F) -> f64);

/// Name, decimals and value of each figure.
const BACKLOG: [Figure<backlog::Figures>; 4] = [
    ("events/s", 0, |run| run.events_per_s),
    ("CPU s/M", 1, |run| run.cpu_s_per_million),
    ("broker CPU s/M", 1, |run| run.broker_cpu_s_per_million),
    ("peak MB", 0, |run| run.peak_mb),
];
const LATENCY: [Figure<latency::Figures>; 4] = [
    ("p50 ms", 1, |run| run.p50_ms),
    ("p99 ms", 1, |run| run.p99_ms),
    ("added p50 ms", 1, |run| run.added_p50_ms),
    ("added p99 ms", 1, |run| run.added_p99_ms),
];

impl Report {
    pub fn new(machine: Vec<(&'static str, String)>, rounds: usize) -> Self {
        Self {
            machine,
            rounds,
            backlog: Vec::new(),
            latency: Vec::new(),
            transactions: Vec::new(),
        }
    }

    /// Tables for people.
    pub fn as_text(&self) -> String {
        let mut text = String::new();
        let rows: Vec<_> = self
            .machine
            .iter()
            .map(|(name, value)| format!("  {name}: {value}\n"))
            .collect();
        text += "Machine and versions\n";
        text += &rows.concat();
        let (backlog, latency) = (
            medians(&self.backlog, &BACKLOG),
            medians(&self.latency, &LATENCY),
        );
        if !backlog.is_empty() {
            text += &format!(
                "\nBacklog of {EVENT_BYTES}-byte events, two outputs each: medians of {} rounds \
                 (lowest to highest), every event out exactly once\n",
                self.rounds
            );
            text += &rendered(&backlog, &BACKLOG);
            text += &ratios(&backlog, 0, "events/s");
        }
        if !latency.is_empty() {
            text += &format!(
                "\nAt {} events/s, until a committed reader has both outputs: medians of {} rounds\n",
                latency::RATE,
                self.rounds
            );
            text += &rendered(&latency, &LATENCY);
            text += &ratios(&latency, 0, "p50");
        }
        if !self.transactions.is_empty() {
            text += &format!(
                "\nOne transaction of {} events, offsets included\n",
                transactions::EVENTS
            );
            let mut rows = vec![
                ["output partitions", "p50 ms", "p99 ms", "transactions"]
                    .map(str::to_owned)
                    .to_vec(),
            ];
            for (partitions, run) in &self.transactions {
                rows.push(vec![
                    partitions.to_string(),
                    format!("{:.1}", run.p50_ms),
                    format!("{:.1}", run.p99_ms),
                    format!("{} of {} arrivals", run.whole, run.arrivals),
                ]);
            }
            text += &table(&rows);
        }
        text
    }

    /// The same, with the figures of every run.
    pub fn as_json(&self) -> Value {
        json!({
            "machine": machine::as_json(&self.machine),
            "rounds": self.rounds,
            "event_bytes": EVENT_BYTES,
            "backlog": as_json(&medians(&self.backlog, &BACKLOG), &BACKLOG),
            "latency": as_json(&medians(&self.latency, &LATENCY), &LATENCY),
            "transactions": self.transactions.iter().map(|(partitions, run)| json!({
                "output_partitions": partitions,
                "events": transactions::EVENTS,
                "p50_ms": run.p50_ms,
                "p99_ms": run.p99_ms,
                "transactions": run.whole,
                "arrivals": run.arrivals,
            })).collect::<Vec<_>>(),
        })
    }
}

/// One subject: the values of each figure in all its runs.
struct Row {
    subject: Subject,
    values: Vec<Vec<f64>>,
}

fn medians<F>(runs: &[(Subject, F)], figures: &[Figure<F>]) -> Vec<Row> {
    Subject::ALL
        .into_iter()
        .filter_map(|subject| {
            let own: Vec<_> = runs.iter().filter(|(of, _)| *of == subject).collect();
            let values = figures
                .iter()
                .map(|(_, _, value)| own.iter().map(|(_, run)| value(run)).collect())
                .collect();
            (!own.is_empty()).then_some(Row { subject, values })
        })
        .collect()
}

fn rendered<F>(rows: &[Row], figures: &[Figure<F>]) -> String {
    let mut cells = vec![
        std::iter::once(String::new())
            .chain(figures.iter().map(|(name, _, _)| (*name).to_owned()))
            .collect::<Vec<_>>(),
    ];
    for row in rows {
        let mut line = vec![row.subject.name().to_owned()];
        for (values, (_, decimals, _)) in row.values.iter().zip(figures) {
            let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
            let highest = values.iter().copied().fold(0.0, f64::max);
            line.push(format!(
                "{:.decimals$} ({lowest:.decimals$}–{highest:.decimals$})",
                median(values)
            ));
        }
        cells.push(line);
    }
    table(&cells)
}

/// The connector's median over each of the others.
fn ratios(rows: &[Row], figure: usize, name: &str) -> String {
    let of = |row: &Row| median(&row.values[figure]);
    let Some(ours) = rows.iter().find(|row| row.subject == Subject::ExactlyOnce) else {
        return String::new();
    };
    rows.iter()
        .filter(|row| row.subject != Subject::ExactlyOnce)
        .map(|row| {
            format!(
                "  {name}, {} / {}: {:.2}\n",
                ours.subject.name(),
                row.subject.name(),
                of(ours) / of(row)
            )
        })
        .collect()
}

fn as_json<F>(rows: &[Row], figures: &[Figure<F>]) -> Vec<Value> {
    rows.iter()
        .map(|row| {
            let mut object = serde_json::Map::new();
            object.insert("subject".to_owned(), json!(row.subject.name()));
            for ((name, _, _), values) in figures.iter().zip(&row.values) {
                let name = name.to_lowercase().replace(['/', ' '], "_");
                object.insert(name, json!({ "median": median(values), "runs": values }));
            }
            object.into()
        })
        .collect()
}
