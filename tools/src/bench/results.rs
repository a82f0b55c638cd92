//! What was measured: as JSON lines, as tables, and against what was aimed at.

use std::fmt::Write as _;

use crate::report::{Report, median};

/// All rounds of one server in one case.
pub struct Row {
    /// What is measured.
    pub part: &'static str,
    /// Under which circumstances.
    pub case: String,
    /// The server's name on the command line.
    pub server: &'static str,
    /// One value a round.
    pub values: Vec<f64>,
}

impl Row {
    /// The middle of the rounds.
    pub fn median(&self) -> f64 {
        median(&self.values)
    }

    /// Half of the way from the lowest round to the highest.
    pub fn spread(&self) -> f64 {
        let (low, high) = self.bounds();
        (high - low) / 2.0
    }

    /// The lowest round and the highest.
    pub fn bounds(&self) -> (f64, f64) {
        self.values.iter().fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(*value), high.max(*value)))
    }

    /// As an object of JSON.
    pub fn json(&self) -> String {
        let (low, high) = self.bounds();
        let rounds: Vec<String> = self.values.iter().map(|value| format!("{value:.4}")).collect();
        Report::new("bench")
            .text("part", self.part)
            .text("case", &self.case)
            .text("server", self.server)
            .float("median", self.median())
            .float("low", low)
            .float("high", high)
            .value("rounds", format_args!("[{}]", rounds.join(", ")))
            .line()
    }
}

/// Everything that was measured in a run.
#[derive(Default)]
pub struct Results(pub Vec<Row>);

impl Results {
    /// What there is about a server in a case.
    pub fn get(&self, part: &str, case: &str, server: &str) -> Option<&Row> {
        self.0.iter().find(|row| row.part == part && row.case == case && row.server == server)
    }

    /// The cases of a part, in the order in which they were measured.
    pub fn cases(&self, part: &str) -> Vec<&str> {
        let mut cases: Vec<&str> = Vec::new();
        for row in self.0.iter().filter(|row| row.part == part) {
            if !cases.contains(&row.case.as_str()) {
                cases.push(&row.case);
            }
        }
        cases
    }

    /// A table for each part, a row for each server: medians, and half of the way between the lowest and the highest round.
    pub fn tables(&self, parts: &[(&'static str, &str)], servers: &[(&'static str, &str)]) -> String {
        let mut text = String::new();
        for (part, title) in parts {
            let cases = self.cases(part);
            if cases.is_empty() {
                continue;
            }
            let _ =
                writeln!(text, "\n{title}:\n\n| | {} |\n| --- |{}", cases.join(" | "), " ---: |".repeat(cases.len()));
            for (server, name) in servers {
                let cells: Vec<String> =
                    cases.iter().map(|case| self.get(part, case, server).map_or(String::new(), cell)).collect();
                if cells.iter().any(|cell| !cell.is_empty()) {
                    let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
                }
            }
        }
        text
    }
}

/// A median with its spread, with as many digits as make sense.
fn cell(row: &Row) -> String {
    let (value, spread) = (row.median(), row.spread());
    let digits = digits(value);
    match row.values.len() {
        1 => format!("{value:.digits$}"),
        _ => format!("{value:.digits$} ± {spread:.digits$}"),
    }
}

/// Three significant digits, and no more than whole numbers.
pub fn digits(value: f64) -> usize {
    match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    }
}

/// At most three digits behind the point.
fn short(value: f64) -> String {
    format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What was aimed at: a value, or its ratio to another one.
pub struct Aim {
    /// In words.
    pub what: &'static str,
    /// Part, case and server.
    pub value: (&'static str, &'static str, &'static str),
    /// Of what it is a part: part, case and server.
    pub of: Option<(&'static str, &'static str, &'static str)>,
    /// What is aimed at.
    pub bound: Bound,
}

/// A limit.
#[derive(Clone, Copy)]
pub enum Bound {
    /// No more than this.
    AtMost(f64),
    /// No less.
    AtLeast(f64),
}

impl Results {
    /// What came of the aims that could be measured, as a table.
    pub fn judge(&self, aims: &[Aim]) -> String {
        let mut text = String::from("\n| aim | measured | wanted | |\n| --- | ---: | ---: | --- |\n");
        let mut any = false;
        for aim in aims {
            let value = |(part, case, server)| self.get(part, case, server).map(Row::median);
            let of = aim.of.map_or(Some(1.0), value);
            let Some((value, of)) = value(aim.value).zip(of) else { continue };
            let measured = value / of;
            let (wanted, reached) = match aim.bound {
                Bound::AtMost(bound) => (format!("≤ {}", short(bound)), measured <= bound),
                Bound::AtLeast(bound) => (format!("≥ {}", short(bound)), measured >= bound),
            };
            let verdict = if reached { "reached" } else { "**missed**" };
            let digits = digits(measured);
            let _ = writeln!(text, "| {} | {measured:.digits$} | {wanted} | {verdict} |", aim.what);
            any = true;
        }
        if any { text } else { String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let row = |server, values: &[f64]| Row { part: "messages", case: "64 B".into(), server, values: values.into() };
        Results(vec![row("a", &[2.0, 1.0, 4.0]), row("b", &[400.0])])
    }

    #[test]
    fn a_table_shows_medians_and_spread() {
        let text = results().tables(&[("messages", "CPU"), ("none", "Nothing")], &[("a", "A"), ("b", "B"), ("c", "C")]);
        assert_eq!(text, "\nCPU:\n\n| | 64 B |\n| --- | ---: |\n| A | 2.00 ± 1.50 |\n| B | 400 |\n");
    }

    #[test]
    fn aims_are_reached_or_missed() {
        let (a, b) = (("messages", "64 B", "a"), ("messages", "64 B", "b"));
        let aim = |of, bound| Aim { what: "x", value: a, of, bound };
        let judged = |aim| !results().judge(&[aim]).contains("missed");
        assert!(judged(aim(None, Bound::AtMost(2.0))));
        assert!(!judged(aim(None, Bound::AtLeast(2.1))));
        assert!(judged(aim(Some(b), Bound::AtMost(0.005))));
        assert!(!judged(aim(Some(b), Bound::AtMost(0.004))));
        let unknown = Aim { what: "x", value: ("messages", "64 B", "c"), of: None, bound: Bound::AtMost(0.0) };
        assert_eq!(results().judge(&[unknown]), "");
    }

    #[test]
    fn json_has_all_rounds() {
        assert!(results().0[0].json().contains("\"median\": 2.0000, \"low\": 1.0000, \"high\": 4.0000"));
        assert!(results().0[0].json().ends_with("\"rounds\": [2.0000, 1.0000, 4.0000]}"));
    }
}
