//! What a run says: progress on a terminal while it goes on, one line of JSON when it is done.

use std::fmt::{Display, Write as _};
use std::io::{IsTerminal, Write as _, stderr};
use std::time::{Duration, Instant};

/// A JSON object that is written field by field.
pub struct Report(String);

impl Report {
    /// The report of the subcommand `command`.
    pub fn new(command: &str) -> Self {
        Report(String::new()).text("command", command)
    }

    /// An object that is to stand in another one.
    pub fn nested() -> Self {
        Report(String::new())
    }

    /// An object in this one.
    pub fn part(self, name: &str, part: Report) -> Self {
        self.field(name, part.line())
    }

    fn field(mut self, name: &str, value: impl Display) -> Self {
        let comma = if self.0.is_empty() { "" } else { ", " };
        write!(self.0, "{comma}\"{name}\": {value}").expect("a String takes everything");
        self
    }

    /// A whole number or a truth value.
    pub fn value(self, name: &str, value: impl Display) -> Self {
        self.field(name, value)
    }

    /// A number with a fraction; what is not finite has no place in JSON and becomes null.
    pub fn float(self, name: &str, value: f64) -> Self {
        if value.is_finite() { self.field(name, format_args!("{value:.4}")) } else { self.field(name, "null") }
    }

    /// A text.
    pub fn text(self, name: &str, value: &str) -> Self {
        let mut quoted = String::from("\"");
        for c in value.chars() {
            match c {
                '"' | '\\' => quoted.extend(['\\', c]),
                c if c < ' ' => write!(quoted, "\\u{:04x}", c as u32).expect("a String takes everything"),
                c => quoted.push(c),
            }
        }
        self.field(name, quoted + "\"")
    }

    /// How `sorted` is spread, in milliseconds.
    pub fn spread(self, name: &str, sorted: &[Duration]) -> Self {
        let at = |p: f64| quantile(sorted, p).map_or("null".to_owned(), |d| format!("{:.3}", d.as_secs_f64() * 1e3));
        self.field(
            name,
            format_args!("{{\"p50\": {}, \"p90\": {}, \"p99\": {}, \"max\": {}}}", at(0.5), at(0.9), at(0.99), at(1.0)),
        )
    }

    /// Writes the line to stdout.
    pub fn print(self) {
        println!("{}", self.line());
    }

    /// The object as one line.
    pub fn line(&self) -> String {
        format!("{{{}}}", self.0)
    }
}

/// The value below which the part `p` of `sorted` lies (nearest rank); none in an empty list.
pub fn quantile<T: Copy>(sorted: &[T], p: f64) -> Option<T> {
    let rank = (p * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// The middle of `values`; NaN when there are none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// A line on the terminal that is written over and over; where stderr is none, a line now and then of what takes long.
pub struct Progress {
    terminal: bool,
    last: Option<Instant>,
}

impl Progress {
    const ON_TERMINALS: Duration = Duration::from_millis(200);
    const ELSEWHERE: Duration = Duration::from_secs(20);

    /// Nothing is shown yet.
    pub fn new() -> Self {
        let terminal = stderr().is_terminal();
        Progress { terminal, last: (!terminal).then(Instant::now) }
    }

    /// Shows the line that `text` makes, if the last one was long enough ago.
    pub fn show(&mut self, text: impl FnOnce() -> String) {
        let every = if self.terminal { Self::ON_TERMINALS } else { Self::ELSEWHERE };
        if self.last.is_none_or(|last| last.elapsed() >= every) {
            self.last = Some(Instant::now());
            // A terminal that went away is no reason to stop.
            let _ =
                if self.terminal { write!(stderr(), "\r\x1b[K{}", text()) } else { writeln!(stderr(), "{}", text()) };
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal && self.last.is_some() {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_line_of_json() {
        let part = Report::nested().value("in", true);
        let report = Report::new("x").value("n", 3).float("f", 0.5).float("none", f64::NAN).text("t", "a\"b\\\n");
        let report = report.part("p", part);
        assert_eq!(
            report.line(),
            "{\"command\": \"x\", \"n\": 3, \"f\": 0.5000, \"none\": null, \"t\": \"a\\\"b\\\\\\u000a\", \
             \"p\": {\"in\": true}}"
        );
    }

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let hundred: Vec<u32> = (1..=100).collect();
        assert_eq!(quantile(&hundred, 0.5), Some(50));
        assert_eq!(quantile(&hundred, 0.99), Some(99));
        assert_eq!(quantile(&hundred, 1.0), Some(100));
        assert_eq!(quantile(&[7], 0.01), Some(7));
        assert_eq!(quantile::<u32>(&[], 0.5), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
    }
}
