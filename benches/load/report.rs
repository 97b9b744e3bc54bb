//! Result tables, and the file that contains them.

use std::fmt::Write as _;
use std::{fs, io};

use super::measure::median;

/// One table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scenario {
    pub(crate) title: String,
    /// The unit of the values.
    pub(crate) unit: &'static str,
    pub(crate) rows: Vec<Row>,
    pub(crate) goals: Vec<Goal>,
    pub(crate) notes: Vec<String>,
}

/// The results of one server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// One value per round.
    pub(crate) values: Vec<f64>,
    /// The CPU time per unit of work, one value per round.
    pub(crate) cpu: Vec<f64>,
    /// The peak memory, in bytes.
    pub(crate) peak: u64,
}

/// A goal and the value that was measured.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    pub(crate) text: String,
    pub(crate) value: f64,
    pub(crate) is_met: bool,
}

impl Goal {
    pub(crate) fn at_least(text: &str, value: f64, wanted: f64) -> Self {
        Self { text: format!("{text} >= {wanted}"), value, is_met: value >= wanted }
    }

    pub(crate) fn at_most(text: &str, value: f64, wanted: f64) -> Self {
        Self { text: format!("{text} <= {wanted}"), value, is_met: value <= wanted }
    }
}

impl Scenario {
    pub(crate) fn value(&self, name: &str) -> f64 {
        self.rows.iter().find(|row| row.name == name).map_or(f64::NAN, |row| median(&row.values))
    }

    pub(crate) fn cpu(&self, name: &str) -> f64 {
        self.rows.iter().find(|row| row.name == name).map_or(f64::NAN, |row| median(&row.cpu))
    }

    pub(crate) fn to_markdown(&self) -> String {
        let mut text = format!("\n### {}\n\n", self.title);
        let cpu_unit = if self.unit == "requests/s" { "CPU us per request" } else { "CPU s a GB" };
        let _ = writeln!(text, "| | {} (median; range) | {cpu_unit} | peak MB |\n|---|---|---|---|", self.unit);
        for row in &self.rows {
            let low = row.values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = row.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let cpu = if row.cpu.is_empty() { "".into() } else { short(median(&row.cpu)) };
            let peak = if row.peak == 0 { "".into() } else { (row.peak / 1_000_000).to_string() };
            let (middle, low, high) = (short(median(&row.values)), short(low), short(high));
            let _ = writeln!(text, "| {} | {middle} ({low} to {high}) | {cpu} | {peak} |", row.name);
        }
        text.push('\n');
        for goal in &self.goals {
            let verdict = if goal.is_met { "met" } else { "**missed**" };
            let _ = writeln!(text, "- {}: {} ({verdict})", goal.text, short(goal.value));
        }
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        text
    }
}

/// Formats with three significant digits.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// All tables of a run.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Scenario>);

impl Report {
    pub(crate) fn add(&mut self, scenario: Scenario) {
        self.0.push(scenario);
    }

    /// Replaces the generated part of the file, and keeps the rest.
    pub(crate) fn write(&self, path: &str, versions: &str, rounds: usize) -> io::Result<()> {
        const END: &str = "<!-- end of what benches/load writes -->";
        let old = fs::read_to_string(path).unwrap_or_default();
        let rest = old.split_once(END).map(|(_, rest)| rest).unwrap_or_default();
        let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
        let mut text = format!(
            "# Results\n\nWritten by `cargo bench --bench load -- {}`: {rounds} rounds, the contestants in turn, medians. \
             Machines are noisy: only ratios of one run count.\n\n{versions}\n",
            words.join(" ")
        );
        self.0.iter().for_each(|scenario| text.push_str(&scenario.to_markdown()));
        text.push_str(&format!("\n{END}{rest}"));
        fs::write(path, text)
    }
}
