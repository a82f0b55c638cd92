//! The example programs, in both languages, run as somebody who tries them out would run them.

mod common;

use std::io::Write;
use std::net::UdpSocket;
use std::process::Stdio;
use std::thread;

use common::cert;
use common::examples::{Language, Server};
use common::process::{PATIENCE, Process};

const EXAMPLES: [&str; 5] = ["echo_server", "echo_client", "event_loop", "chat", "dtls_proxy"];

/// Waits until a program has said all of this, in this order.
fn says(process: &Process, words: &[&str]) {
    process.until(|output| words.iter().try_fold(output, |rest, word| Some(rest.split_once(word)?.1)).map(drop));
}

#[test]
fn each_has_a_help_and_refuses_what_it_does_not_know() {
    for (language, name) in Language::BOTH.into_iter().flat_map(|language| EXAMPLES.map(|name| (language, name))) {
        let help = language.program(name).arg("-h").output().unwrap();
        let text = String::from_utf8(help.stdout).unwrap();
        let usage = text.strip_prefix("usage: ").unwrap_or(&text);
        assert!(help.status.success() && usage.starts_with(&format!("{name} ")), "{name} -h: {text}");
        assert!(text.lines().all(|line| line.len() <= 120), "{text}");
        assert!(text.contains("\n  --port N ") && text.ends_with('\n'), "{text}");
        let wrong = language.program(name).args(["--backend", "127.0.0.1:9", "--no-such-word"]).output().unwrap();
        assert_eq!(wrong.status.code(), Some(2), "{language:?}: {name} --no-such-word");
    }
}

/// What is wrong with the command line alone is told, with the option and its value, and ends with 2; what the system does not
/// have, such as a file or a host, with 1.
#[test]
fn wrong_usage_is_told() {
    let all = &EXAMPLES[..];
    let (with_workers, server, client, proxy) =
        (&["echo_server", "chat", "dtls_proxy"][..], &EXAMPLES[..1], &EXAMPLES[1..2], &EXAMPLES[4..]);
    let numbers: [(&[&str], &str, &[&str]); 9] = [
        (all, "--port", &["abc", "-1", "65536", "", "1x"]),
        (with_workers, "--workers", &["abc", "0", "257"]),
        (server, "--metrics", &["abc", "65536"]),
        (server, "--max-sessions", &["abc", "0", "4294967296"]),
        (server, "--idle-timeout", &["abc", "-1", "4294967296"]),
        (client, "--count", &["abc", "0", "4294967296"]),
        (client, "--timeout", &["abc", "0", "4294967296"]),
        (client, "--port", &["0"]),
        (proxy, "--idle", &["abc", "-1", "4294967296"]),
    ];
    let others: [(&[&str], &str, &[&str], i32); 7] = [
        (client, "--message", &[""], 2),
        (client, "--name", &["no name"], 2),
        (client, "--host", &["host.invalid"], 1),
        (proxy, "--backend", &["", "host", ":9", "host:", "127.0.0.1:abc", "127.0.0.1:0", "127.0.0.1:65536"], 2),
        (proxy, "--backend", &["host.invalid:9"], 1),
        (all, "--psk", &["", "0", "xx"], 2),
        (all, "--ca", &["no such file"], 1),
    ];
    let ends = |language: Language, name: &str, option: &str, value: &str| {
        let mut program = language.program(name);
        // It must not begin to serve.
        if name != "echo_client" && option != "--port" {
            program.args(["--port", "0"]);
        }
        if name == "dtls_proxy" && option != "--backend" {
            program.args(["--backend", "127.0.0.1:9"]);
        }
        program.args([option, value]);
        let ended = Process::start(program, Stdio::null()).wait();
        (ended.status.code(), ended.output)
    };
    for language in Language::BOTH {
        for (names, option, values) in numbers {
            for (name, value) in names.iter().flat_map(|name| values.iter().map(move |value| (name, value))) {
                let (code, told) = ends(language, name, option, value);
                assert_eq!(code, Some(2), "{language:?}: {name} {option} {value}: {told}");
                assert!(
                    told.contains(&format!("{option} {value}: not a number from ")),
                    "{language:?}: {name}: {told}"
                );
            }
        }
        for (names, option, values, expected) in others {
            for (name, value) in names.iter().flat_map(|name| values.iter().map(move |value| (name, value))) {
                let (code, told) = ends(language, name, option, value);
                assert_eq!(code, Some(expected), "{language:?}: {name} {option} {value}: {told}");
                assert!(!told.is_empty());
            }
        }
    }
}

#[test]
fn echo() {
    let key = "000102030405060708090a0b0c0d0e0f";
    for language in Language::BOTH {
        let server = language.serve("echo_server", &["--workers", "2", "--psk", key]);
        let asks = |options: &[&str]| language.asks(server.address, options);
        let (text, content) = asks(&["--name", "localhost", "--message", "hello there", "--count", "3"]);
        assert!(content && text.lines().filter(|line| line.ends_with("hello there")).count() == 3, "{text}");
        let (text, content) = asks(&["--psk", key]);
        assert!(content && text.contains("PSK-"), "{text}");
        assert!(!asks(&["--name", "somebody.else"]).1);
        assert!(!asks(&["--ca", &cert("other-ca.pem")]).1);
    }
}

#[test]
fn echo_with_certificates_of_clients() {
    for language in Language::BOTH {
        let server = language.serve("echo_server", &["--ca", &cert("ca.pem"), "--require-client-cert"]);
        assert!(language.asks(server.address, &["--cert", &cert("client.pem"), "--key", &cert("client.key")]).1);
        assert!(!language.asks(server.address, &["--timeout", "5"]).1);
    }
}

#[test]
fn event_loop() {
    for language in Language::BOTH {
        let Server { address, mut process } = language.serve("event_loop", &[]);
        let asks = thread::spawn(move || language.asks(address, &["--message", "anybody there?", "--count", "2"]));
        let mut terminal = process.child.stdin.take().unwrap();
        says(&process, &["is here", "anybody there?"]);
        terminal.write_all(b"yes\n").unwrap();
        says(&process, &["is here", "anybody there?", "anybody there?"]);
        terminal.write_all(b"I am\n").unwrap();
        let (text, content) = asks.join().unwrap();
        assert!(content && text.contains("yes") && text.contains("I am"), "{text}");
        says(&process, &["is here", "anybody there?", "anybody there?", "is gone"]);
        drop(terminal);
        let ended = process.wait();
        assert!(ended.status.success(), "{}", ended.output);
    }
}

#[test]
fn chat() {
    for language in Language::BOTH {
        let room = language.serve("chat", &[]);
        let mut first = Language::Rust.program("echo_client");
        let port = room.address.port().to_string();
        first.args(["--port", &port, "--count", "3", "--message", "I am here", "--timeout", "60"]);
        let first = Process::start(first, Stdio::null());
        says(&first, &["connected"]);
        // It hears nothing for what it says itself, so it is this one that hears the other one come and speak.
        let mut second = language.program("echo_client");
        second.args(["--port", &port, "--message", "hello all"]);
        let _second = Process::start(second, Stdio::null());
        says(&first, &["has come", ": hello all"]);
    }
}

#[test]
fn dtls_proxy() {
    for language in Language::BOTH {
        let backend = UdpSocket::bind("127.0.0.1:0").unwrap();
        backend.set_read_timeout(Some(PATIENCE)).unwrap();
        let proxy = language.serve("dtls_proxy", &["--backend", &backend.local_addr().unwrap().to_string()]);
        let messages = ["one", "two", "three"];
        let asks =
            messages.map(|message| thread::spawn(move || language.asks(proxy.address, &["--message", message]).0));
        let mut peers = Vec::new();
        for _ in &asks {
            let mut datagram = [0; 100];
            let (len, peer) = backend.recv_from(&mut datagram).unwrap();
            assert!(!peers.contains(&peer), "two sessions have one socket");
            peers.push(peer);
            backend.send_to(&[b"answer to ", &datagram[..len]].concat(), peer).unwrap();
        }
        for (message, asks) in messages.iter().zip(asks) {
            assert!(asks.join().unwrap().contains(&format!("answer to {message}")));
        }
    }
}
