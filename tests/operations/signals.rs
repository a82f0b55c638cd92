//! Signals, with which an operator ends an example server or lets it read its certificate again.

use std::fs;
use std::process::Stdio;

use crate::Proof;
use crate::common::cert;
use crate::common::process::{Process, wait_until};
use crate::examples::{Language, file};

pub const PROOFS: &[Proof] = &[
    Proof { name: "the_end_is_told", needs: &[], run: the_end_is_told },
    Proof { name: "certificate_read_again", needs: &[], run: certificate_read_again },
];

fn the_end_is_told() {
    let servers: [(&str, &[&str]); 4] =
        [("echo_server", &[]), ("chat", &[]), ("event_loop", &[]), ("dtls_proxy", &["--backend", "127.0.0.1:9"])];
    for language in Language::BOTH {
        for (name, options) in servers {
            for asked in [libc::SIGINT, libc::SIGTERM] {
                let server = language.serve(name, options);
                let mut client = language.program("echo_client");
                client.args(["--port", &server.address.port().to_string(), "--count", "1000000", "--timeout", "60"]);
                let client = Process::start(client, Stdio::null());
                client.until(|output| output.contains("connected to").then_some(()));
                server.process.signal(asked);
                let ended = server.process.wait();
                assert!(ended.status.success(), "{language:?} {name} {asked}: {ended:?}");
                let ended = client.wait();
                assert!(ended.output.contains("the session is over"), "{language:?} {name} {asked}: {ended:?}");
                assert_eq!(ended.status.code(), Some(4), "{language:?} {name} {asked}: it was not answered");
            }
        }
    }
}

fn certificate_read_again() {
    for language in Language::BOTH {
        let show = |name: &str| {
            let [pem, key] = ["pem", "key"].map(|kind| fs::read(cert(&format!("{name}.{kind}"))).expect("a file"));
            [file("shown.pem", pem), file("shown.key", key)]
        };
        let [pem, key] = show("server-ecdsa");
        let server = language.serve("echo_server", &["--cert", &pem, "--key", &key]);
        let is = |name: &str| language.asks(server.address, &["--name", name]).1;
        assert!(is("localhost") && !is("one.example.test"), "{language:?}");
        show("named");
        server.process.signal(libc::SIGHUP);
        wait_until(|| is("one.example.test"), || server.process.output());
        // What cannot be read changes nothing.
        fs::write(&pem, "no certificate").expect("written");
        server.process.signal(libc::SIGHUP);
        server.process.until(|output| output.contains("the old certificate stays").then_some(()));
        assert!(is("one.example.test"), "{language:?}");
    }
}
