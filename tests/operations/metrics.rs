//! What the example servers show to Prometheus.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::Proof;
use crate::common::members;
use crate::common::process::{PATIENCE, wait_until};
use crate::examples::{Language, Server};

pub const PROOFS: &[Proof] = &[Proof { name: "every_counter_is_shown", needs: &[], run: every_counter_is_shown }];

fn every_counter_is_shown() {
    let mut counters = members("dv_stats");
    // The last two are the helpers'.
    counters.retain(|member| !["size", "messages_cut", "abandoned_freed"].contains(&member.as_str()));
    assert!(counters.len() > 40, "{counters:?}");
    for language in Language::BOTH {
        let server = language.serve("echo_server", &["--metrics", "0"]);
        let (said, answered) = language.asks(server.address, &["--name", "localhost", "--count", "3"]);
        assert!(answered, "{said}");

        // The client is gone; its goodbye may still be under way.
        let mut page = String::new();
        wait_until(
            || {
                page = shown_by(&server);
                page.contains("\ndv_sessions 0\n")
            },
            || format!("{language:?} still has the session"),
        );
        let mut shown = Vec::new();
        // Each number has its type before it, under a name that Prometheus takes.
        for pair in page.lines().collect::<Vec<_>>().chunks(2) {
            let (name, value) = pair[1].split_once(' ').unwrap_or_else(|| panic!("{page}"));
            let (kind, member) = match name.strip_suffix("_total") {
                Some(name) => ("counter", name),
                None => ("gauge", name),
            };
            assert_eq!(pair[0], format!("# TYPE {name} {kind}"), "{language:?}");
            value.parse::<u64>().expect("a number");
            let member = member.strip_prefix("dv_").expect("our prefix").to_owned();
            assert!(!shown.contains(&member), "{language:?}: {member} comes twice");
            shown.push(member);
        }
        assert!(page.contains("\ndv_messages_in_total 3\n"), "{page}");
        let missing: Vec<_> = counters.iter().filter(|counter| !shown.contains(counter)).collect();
        assert!(missing.is_empty(), "{language:?}: {missing:?}");
    }
}

/// The page of a server's statistics.
fn shown_by(server: &Server) -> String {
    let address = server.process.until(|output| {
        let (_, line) = output.split_once("metrics at http://")?;
        Some(line.split_once("/\n")?.0.to_owned())
    });
    let mut asks = TcpStream::connect(address).expect("it listens");
    asks.set_read_timeout(Some(PATIENCE)).expect("not zero");
    asks.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("asked");
    let mut answer = String::new();
    asks.read_to_string(&mut answer).expect("text");
    let (head, page) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
    page.to_owned()
}
