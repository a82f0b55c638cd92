//! The results as one picture: a chart of bars for each of the chosen cases.

use std::fmt::Write as _;

use super::results::{Results, Row, digits};

/// The charts: part, case and title.
const CHARTS: [(&str, &str, &str); 6] = [
    ("messages", "64 B, 64 clients", "µs of server CPU per message of 64 B, 64 clients"),
    ("messages", "1,000 B, 64 clients", "the same, 1,000 B"),
    ("messages", "64 B, bursts of 8", "the same, 64 B in bursts of 8"),
    ("handshakes", "full", "µs of server CPU per handshake"),
    ("flood", "kept, any number of hellos", "throughput kept beside a flood (more is better)"),
    ("memory", "1,000", "kB of memory per idle connection"),
];

const WIDTH: f64 = 460.0;
const LABELS: f64 = 178.0;
const VALUES: f64 = 50.0;
const BAR: f64 = 15.0;
const STEP: f64 = 21.0;
const TITLE: f64 = 34.0;
const GAP: f64 = 30.0;

/// Draws the charts of what was measured, two beside each other.
pub fn svg(results: &Results, servers: &[(&'static str, &str)]) -> String {
    let bars = |part: &str, case: &str| -> Vec<(&str, &str, &Row)> {
        let row = |(id, name): &(&'static str, _)| results.get(part, case, id).map(|row| (*id, *name, row));
        servers.iter().filter_map(row).collect()
    };
    let charts: Vec<_> = CHARTS.iter().map(|(part, case, title)| (*title, bars(part, case))).collect();
    let charts: Vec<_> = charts.into_iter().filter(|(_, bars)| !bars.is_empty()).collect();
    let (mut body, mut top) = (String::new(), GAP / 2.0);
    for pair in charts.chunks(2) {
        let rows = pair.iter().map(|(_, bars)| bars.len()).max().unwrap_or(0);
        for (column, (title, bars)) in pair.iter().enumerate() {
            chart(&mut body, GAP + column as f64 * (WIDTH + GAP), top, title, bars);
        }
        top += TITLE + rows as f64 * STEP + GAP;
    }
    let width = 2.0 * WIDTH + 3.0 * GAP;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {top}\" width=\"{width}\" height=\"{top}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

/// One chart, with its upper left corner at `left` and `top`.
fn chart(svg: &mut String, left: f64, top: f64, title: &str, bars: &[(&str, &str, &Row)]) {
    let most = bars.iter().map(|(.., row)| row.bounds().1).fold(f64::MIN_POSITIVE, f64::max);
    let zero = left + LABELS;
    let length = |value: f64| value.max(0.0) / most * (WIDTH - LABELS - VALUES);
    let _ = writeln!(
        svg,
        "<text x=\"{left}\" y=\"{:.1}\" font-weight=\"bold\" fill=\"#222222\">{title}</text>",
        top + TITLE - 18.0
    );
    for (n, (id, name, row)) in bars.iter().enumerate() {
        let y = top + TITLE + n as f64 * STEP;
        let (middle, (value, (low, high))) = (y + BAR / 2.0, (row.median(), row.bounds()));
        let colour = match *id {
            "server" | "server-openssl" | "endpoint" | "helpers" => "#2a6fbb",
            "original" => "#c2571a",
            _ => "#8a8f98",
        };
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#222222\">{name}</text>",
            zero - 6.0,
            middle + 4.5
        );
        let bar = length(value);
        let _ =
            writeln!(svg, "<rect x=\"{zero}\" y=\"{y:.1}\" width=\"{bar:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>");
        let (from, to) = (zero + length(low), zero + length(high));
        let _ = writeln!(
            svg,
            "<line x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"#000000\"/>"
        );
        let digits = digits(value);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"#222222\">{value:.digits$}</text>",
            to.max(zero + bar) + 5.0,
            middle + 4.5
        );
    }
}
