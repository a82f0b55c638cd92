//! A CoAP service that knows nothing of DTLS, behind `dtls_proxy`, and CoAP clients that others wrote.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use crate::Proof;
use crate::common::cert;
use crate::common::process::{Ended, Process, free_port, is_bound, wait_until};
use crate::examples::{Language, Server, file};

pub const PROOFS: &[Proof] = &[
    Proof {
        name: "openssl_with_certificates",
        needs: &["coap-server-notls", "coap-client-openssl"],
        run: || with_certificates("coap-client-openssl"),
    },
    Proof {
        name: "openssl_with_psk",
        needs: &["coap-server-notls", "coap-client-openssl"],
        run: || with_psk("coap-client-openssl"),
    },
    Proof {
        name: "gnutls_with_certificates",
        needs: &["coap-server-notls", "coap-client-gnutls"],
        run: || with_certificates("coap-client-gnutls"),
    },
    Proof {
        name: "gnutls_with_psk",
        needs: &["coap-server-notls", "coap-client-gnutls"],
        run: || with_psk("coap-client-gnutls"),
    },
];

/// Both have certificates, and look at that of the other.
fn with_certificates(client: &'static str) {
    let (ca, other) = (cert("ca.pem"), cert("other-ca.pem"));
    for language in Language::BOTH {
        let service = Service::start(language, &["--ca", &ca, "--require-client-cert"]);
        let (mine, key) = (cert("client.pem"), cert("client.key"));
        service.everything(client, &["-c", &mine, "-j", &key, "-R", &ca]);
        service.nothing(client, &["-c", &mine, "-j", &key, "-R", &other]);
        service.nothing(client, &["-R", &ca]);
    }
}

fn with_psk(client: &'static str) {
    for language in Language::BOTH {
        // "a secret" and "another", as hex digits.
        let keys = file(&format!("{client}-{language:?}.psk"), "sensor 61207365637265740a\nlamp 616e6f74686572\n");
        let service = Service::start(language, &["--psk-file", &keys]);
        service.everything(client, &["-u", "lamp", "-k", "another"]);
        service.nothing(client, &["-u", "lamp", "-k", "a wrong one"]);
        service.nothing(client, &["-u", "nobody", "-k", "another"]);
    }
}

/// The plain service, and the proxy in front of it.
struct Service {
    proxy: Server,
    _plain: Process,
}

impl Service {
    fn start(language: Language, identity: &[&str]) -> Service {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new("coap-server-notls");
        // PUT may make resources.
        command.args(["-A", "127.0.0.1", "-p", &address.port().to_string(), "-d", "100"]);
        let plain = Process::start(command, Stdio::null());
        wait_until(|| is_bound(address), || plain.output());
        let backend = address.to_string();
        Service { proxy: language.serve("dtls_proxy", &[&["--backend", &backend], identity].concat()), _plain: plain }
    }

    fn command(&self, client: &str, identity: &[&str], request: &[&str], resource: &str) -> Command {
        let mut command = Command::new(client);
        command.args(identity).args(request).arg(format!("coaps://{}/{resource}", self.proxy.address));
        command
    }

    fn ask(&self, client: &str, identity: &[&str], request: &[&str], resource: &str) -> Ended {
        Process::start(self.command(client, identity, request, resource), Stdio::null()).wait()
    }

    /// GET, PUT, observation, and 100 KB in blocks in both directions.
    fn everything(&self, client: &str, identity: &[&str]) {
        let put = |text| self.ask(client, identity, &["-m", "put", "-e", text], "note");
        put("the%20first");
        let got = self.ask(client, identity, &["-m", "get"], "note").output;
        assert!(got.contains("\nthe first\n"), "{got}");

        let observe = self.command(client, identity, &["-s", "60", "-w"], "note");
        let observer = Process::start(observe, Stdio::null());
        observer.until(|output| output.contains("\nthe first\n").then_some(()));
        put("the%20second");
        observer.until(|output| output.contains("\nthe second\n").then_some(()));

        let port = self.proxy.address.port();
        let mut bytes = vec![0; 100 * 1024];
        openssl::rand::rand_bytes(&mut bytes).expect("random bytes");
        let (there, back) = (file(&format!("put-{port}"), &bytes), file(&format!("got-{port}"), ""));
        self.ask(client, identity, &["-m", "put", "-f", &there], "large");
        let ended = self.ask(client, identity, &["-m", "get", "-o", &back], "large");
        assert!(std::fs::read(&back).expect("a file") == bytes, "{}", ended.output);
    }

    /// No answer at all.
    fn nothing(&self, client: &str, identity: &[&str]) {
        let ended = self.ask(client, identity, &["-m", "get", "-B", "1"], "note");
        assert!(!ended.output.contains("the second"), "{}", ended.output);
    }
}
