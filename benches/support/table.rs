//! The table of results.

/// A row of the table: what was measured, and the limit that it should keep.
struct Row {
    what: String,
    value: f64,
    unit: &'static str,
    limit: Option<Limit>,
}

/// What a value should be.
pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

/// What was measured.
#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    /// Adds a row, and shows it at once.
    pub(crate) fn add(&mut self, what: impl Into<String>, value: f64, unit: &'static str, limit: Option<Limit>) {
        let row = Row { what: what.into(), value, unit, limit };
        eprintln!("{}: {:.2} {}", row.what, row.value, row.unit);
        self.0.push(row);
    }

    /// Prints all rows as Markdown.
    pub(crate) fn print(&self) {
        println!("\n| | measured | limit | |\n|---|---|---|---|");
        for Row { what, value, unit, limit } in &self.0 {
            let (limit, verdict) = match limit {
                None => (String::new(), ""),
                Some(Limit::AtLeast(least)) => (format!(">= {least}"), verdict(value >= least)),
                Some(Limit::AtMost(most)) => (format!("<= {most}"), verdict(value <= most)),
            };
            println!("| {what} | {value:.2} {unit} | {limit} | {verdict} |");
        }
    }
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "**missed**" }
}
