//! Names of servers and of clients: certificates by server name, certificates that a client may or must show, revocation
//! lists, keys by identity. The clients are OpenSSL's and GnuTLS's.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Proof;
use crate::common::process::{PATIENCE, Process};
use crate::common::{cert, others};
use crate::examples::{Language, file};

pub const PROOFS: &[Proof] = &[
    Proof { name: "server_names_openssl", needs: &[], run: || server_names(s_client) },
    Proof { name: "server_names_gnutls", needs: &["gnutls-cli"], run: || server_names(gnutls_cli) },
    Proof { name: "client_certificates_openssl", needs: &[], run: || client_certificates(s_client) },
    Proof { name: "client_certificates_gnutls", needs: &["gnutls-cli"], run: || client_certificates(gnutls_cli) },
    Proof { name: "revocation_openssl", needs: &[], run: || revocation(s_client) },
    Proof { name: "revocation_gnutls", needs: &["gnutls-cli"], run: || revocation(gnutls_cli) },
    Proof { name: "revoked_server", needs: &[], run: revoked_server },
    Proof { name: "psk_openssl", needs: &[], run: || psk(s_client) },
    Proof { name: "psk_gnutls", needs: &["gnutls-cli"], run: || psk(gnutls_cli) },
    Proof { name: "small_devices_openssl", needs: &[], run: || small_devices(s_client) },
    Proof { name: "small_devices_gnutls", needs: &["gnutls-cli"], run: || small_devices(gnutls_cli) },
    Proof { name: "tickets_of_laxer_servers", needs: &[], run: tickets_of_laxer_servers },
    Proof { name: "keys_only", needs: &[], run: keys_only },
    Proof { name: "what_cannot_be_used", needs: &[], run: what_cannot_be_used },
];

/// What a client says about itself, and what it wants to hear.
#[derive(Clone, Copy, Default)]
struct Client<'a> {
    /// The name that it asks for, and the one that it wants to find in the certificate.
    name: Option<(&'a str, &'a str)>,
    /// The certificate that it shows.
    certificate: Option<&'a str>,
    /// An identity, and the key in hex digits.
    psk: Option<(&'a str, &'a str)>,
    /// It has no other cipher suites than those with AES-128-CCM-8.
    small: bool,
}

type Tool = fn(SocketAddr, Client<'_>) -> Command;

fn s_client(to: SocketAddr, client: Client<'_>) -> Command {
    let mut command = others::s_client(to);
    if let Some((asked, wanted)) = client.name {
        command.args(["-servername", asked, "-verify_hostname", wanted]);
    }
    if let Some(name) = client.certificate {
        command.args(["-cert", &cert(&format!("{name}.pem")), "-key", &cert(&format!("{name}.key"))]);
    }
    if let Some((identity, key)) = client.psk {
        command.args(["-psk_identity", identity, "-psk", key]);
    }
    match (client.psk, client.small) {
        (None, false) => &mut command,
        (None, true) => command.args(["-cipher", "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"]),
        (Some(_), false) => command.args(["-cipher", "PSK+AESGCM"]),
        (Some(_), true) => command.args(["-cipher", "PSK-AES128-CCM8:@SECLEVEL=0"]),
    };
    command
}

fn gnutls_cli(to: SocketAddr, client: Client<'_>) -> Command {
    let mut command = Command::new("gnutls-cli");
    command.args(["--udp", "--logfile=/dev/null", "--x509cafile", &cert("ca.pem")]);
    let (asked, wanted) = client.name.unwrap_or(("localhost", "localhost"));
    command.args(["--sni-hostname", asked, "--verify-hostname", wanted]);
    if let Some(name) = client.certificate {
        command.args(["--x509certfile", &cert(&format!("{name}.pem")), "--x509keyfile", &cert(&format!("{name}.key"))]);
    }
    if let Some((identity, key)) = client.psk {
        command.args(["--pskusername", identity, "--pskkey", key]);
    }
    let exchange = if client.psk.is_some() { ":-KX-ALL:+PSK" } else { "" };
    let cipher = if client.small { ":-CIPHER-ALL:+AES-128-CCM-8" } else { "" };
    command.arg(format!("--priority=NORMAL{exchange}{cipher}"));
    command.args(["--port", &to.port().to_string(), &to.ip().to_string()]);
    command
}

/// Whether a client is served. One that is not has to end by itself.
fn served(tool: Tool, to: SocketAddr, client: Client<'_>) -> bool {
    answered(tool, to, client, PATIENCE).unwrap_or_else(|output| panic!("neither served nor refused: {output}"))
}

/// Whether a client is served, or ends without; where neither happens for so long, what it has printed.
fn answered(tool: Tool, to: SocketAddr, client: Client<'_>, patience: Duration) -> Result<bool, String> {
    is_answered(tool(to, client), patience)
}

fn is_answered(command: Command, patience: Duration) -> Result<bool, String> {
    let mut process = Process::start(command, Stdio::piped());
    let mut input = process.child.stdin.take().expect("piped");
    // Clients that have ended read nothing.
    let _ = input.write_all(b"is anybody there?\n");
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if process.output().contains("is anybody there?") {
            return Ok(true);
        }
        if process.ended().is_some() {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(process.output())
}

fn server_names(tool: Tool) {
    let names =
        ["server-ecdsa", "named", "wildcard"].map(|name| [cert(&format!("{name}.pem")), cert(&format!("{name}.key"))]);
    let options: Vec<&str> =
        names.iter().flat_map(|[certificate, key]| ["--cert", certificate, "--key", key]).collect();
    for language in Language::BOTH {
        let server = language.serve("echo_server", &options);
        let asks =
            |asked, wanted| served(tool, server.address, Client { name: Some((asked, wanted)), ..Client::default() });
        for name in ["localhost", "one.example.test", "two.example.test", "three.example.test"] {
            assert!(asks(name, name), "{language:?}: {name}");
        }
        assert!(asks("some.where.else", "localhost"));
        assert!(!asks("one.example.test", "localhost"));
        assert!(!asks("one.example.test", "three.example.test"), "the first that fits is shown");
    }
}

fn client_certificates(tool: Tool) {
    let ca = cert("ca.pem");
    for language in Language::BOTH {
        // Whether clients are served without a certificate, with one, and with one of somebody else's CA.
        for (options, expected) in [
            (&[] as &[&str], [true, true, true]),
            (&["--ca", &ca], [true, true, false]),
            (&["--ca", &ca, "--require-client-cert"], [false, true, false]),
        ] {
            let server = language.serve("echo_server", options);
            let shows = |certificate| served(tool, server.address, Client { certificate, ..Client::default() });
            let found = [None, Some("client"), Some("wrong-ca")].map(shows);
            assert_eq!(found, expected, "{language:?} {options:?}: {}", server.process.output());
        }
    }
}

fn revocation(tool: Tool) {
    let (ca, lists) = (cert("ca.pem"), cert("crl.pem"));
    let without = ["--ca", &ca, "--require-client-cert"];
    let with = [&without[..], &["--crl", &lists]].concat();
    for language in Language::BOTH {
        for (options, expected) in [(&without[..], [true, true]), (&with[..], [true, false])] {
            let server = language.serve("echo_server", options);
            let shows = |name| served(tool, server.address, Client { certificate: Some(name), ..Client::default() });
            assert_eq!(["client", "revoked-client"].map(shows), expected, "{language:?} {options:?}");
        }
    }
}

/// The other way round: our clients have the list.
fn revoked_server() {
    let (certificate, key, lists) = (cert("revoked.pem"), cert("revoked.key"), cert("crl.pem"));
    for language in Language::BOTH {
        let revoked = language.serve("echo_server", &["--cert", &certificate, "--key", &key]);
        let good = language.serve("echo_server", &[]);
        assert!(language.asks(revoked.address, &[]).1);
        let (output, answered) = language.asks(revoked.address, &["--crl", &lists]);
        assert!(!answered && output.contains("certificate revoked"), "{output}");
        assert!(language.asks(good.address, &["--crl", &lists]).1);
    }
}

fn psk(tool: Tool) {
    for (language, name) in Language::BOTH.into_iter().zip(["c", "rust"]) {
        // Each tool has a test of its own, and they run at the same time.
        let name = format!("{name}-{:x}.psk", tool as usize);
        let keys = file(&name, "one 0102030405060708090a0b0c0d0e0f10\ntwo 1112131415161718191a1b1c1d1e1f20\n");
        let server = language.serve("echo_server", &["--psk-file", &keys]);
        let knows =
            |identity, key| served(tool, server.address, Client { psk: Some((identity, key)), ..Client::default() });
        assert!(knows("one", "0102030405060708090a0b0c0d0e0f10"));
        assert!(knows("two", "1112131415161718191a1b1c1d1e1f20"));
        // With a wrong key nothing of what it says is authentic, so that nothing is answered.
        let wrong = Client { psk: Some(("one", "1112131415161718191a1b1c1d1e1f20")), ..Client::default() };
        assert_ne!(answered(tool, server.address, wrong, Duration::from_secs(2)), Ok(true));
        assert!(!knows("three", "2122232425262728292a2b2c2d2e2f30"));
        file(&name, "three 2122232425262728292a2b2c2d2e2f30\n");
        assert!(knows("three", "2122232425262728292a2b2c2d2e2f30"), "it has come while the server runs");
        assert!(!knows("one", "0102030405060708090a0b0c0d0e0f10"));
        file(&name, "one is no key\ntwo 1112131415161718191a1b1c1d1e1f20\n");
        assert!(knows("two", "1112131415161718191a1b1c1d1e1f20"), "a line that is none is left out, and no more");
        // Who has a certificate needs no key.
        assert!(served(tool, server.address, Client::default()));
    }
}

const KEY: &str = "0102030405060708090a0b0c0d0e0f10";

/// Devices that speak CoAP often have one suite with keys and one with certificates (RFC 7252 9.1.3), which OpenSSL does not
/// offer unless it is told to.
fn small_devices(tool: Tool) {
    for language in Language::BOTH {
        let ciphers = ["--ciphers", "PSK-AES128-CCM8:ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"];
        let server = language.serve("echo_server", &[&["--psk", KEY], &ciphers[..]].concat());
        let with_key = Client { psk: Some(("client", KEY)), small: true, ..Client::default() };
        let with_certificate = Client { small: true, ..Client::default() };
        assert!(served(tool, server.address, with_key), "{language:?}");
        assert!(served(tool, server.address, with_certificate), "{language:?}");
        assert!(!served(tool, server.address, Client::default()), "{language:?}: others were not named");
        assert!(language.asks(server.address, &ciphers).0.contains("ECDHE-ECDSA-AES128-CCM8"));
        let (output, answered) = language.asks(server.address, &[&["--psk", KEY], &ciphers[..]].concat());
        assert!(answered && output.contains("PSK-AES128-CCM8"), "{output}");

        let others = language.serve("echo_server", &["--psk", KEY]);
        assert!(!served(tool, others.address, with_key) && !served(tool, others.address, with_certificate));
    }
}

/// Whoever resumes a session shows nothing: a ticket of a server that asks for less gets nobody in.
fn tickets_of_laxer_servers() {
    let ca = cert("ca.pem");
    let stricter: [&[&str]; 3] = [
        &["--psk", KEY, "--ciphers", "PSK+AESGCM"],
        &["--ca", &ca, "--require-client-cert"],
        &["--ca", &cert("other-ca.pem"), "--require-client-cert"],
    ];
    for language in Language::BOTH {
        let secret = file(&format!("{language:?}.secret"), [7; 32]);
        let serve = |options: &[&str]| language.serve("echo_server", &[&["--secret", &secret], options].concat());
        let says = |to: SocketAddr, options: &[&str]| {
            let mut client = s_client(to, Client::default());
            client.args(options);
            is_answered(client, PATIENCE)
        };
        let (mine, key) = (cert("client.pem"), cert("client.key"));
        for (lax, shown) in [
            (&[][..], &[][..]),
            (&["--ca", &ca], &[]),
            (&["--ca", &ca, "--require-client-cert"], &["-cert", &mine, "-key", &key]),
        ] {
            let ticket = file(&format!("{language:?}.ticket"), "");
            let (server, fellow) = (serve(lax), serve(lax));
            let keep = [shown, &["-sess_out", &ticket]].concat();
            assert_eq!(says(server.address, &keep), Ok(true));
            assert_eq!(says(fellow.address, &["-sess_in", &ticket]), Ok(true), "{language:?} {lax:?}");
            for stricter in stricter.iter().filter(|stricter| **stricter != lax) {
                let server = serve(stricter);
                assert_eq!(
                    says(server.address, &["-sess_in", &ticket]),
                    Ok(false),
                    "{language:?} {lax:?} {stricter:?}"
                );
            }
        }
    }
}

/// Where only suites with keys are offered, nobody is served without one.
fn keys_only() {
    for language in Language::BOTH {
        let server = language.serve("echo_server", &["--psk", KEY, "--ciphers", "PSK+AESGCM"]);
        assert!(language.asks(server.address, &["--psk", KEY]).1);
        assert!(!served(s_client, server.address, Client::default()));
    }
}

/// A server that could serve nobody does not start, and says what is wrong.
fn what_cannot_be_used() {
    let [certificate, key, others_key] = ["server-ecdsa.pem", "server-ecdsa.key", "server-rsa.key"].map(cert);
    let no_keys = file("none.psk", "one 0102030405060708090a0b0c0d0e0f10\ntwo\n");
    for language in Language::BOTH {
        for (options, told) in [
            (&["--cert", &certificate, "--key", &others_key][..], others_key.as_str()),
            (&["--cert", "missing.pem", "--key", &key], "missing.pem: No such file"),
            (&["--key", &key], "--key needs the --cert"),
            (&["--psk-file", "missing.psk"], "missing.psk: No such file"),
            (&["--psk-file", &no_keys], "line 2 "),
            (&["--ca", &certificate, "--crl", "missing.crl"], "missing.crl: No such file"),
            (&["--ciphers", "NONE-OF-THESE"], "no cipher match"),
            (&["--port", "65536"], "65536"),
            (&["--stray"], "stray"),
        ] {
            for name in ["echo_server", "event_loop"] {
                let mut command = language.program(name);
                let free = if options[0] == "--port" { &[][..] } else { &["--port", "0"] };
                command.args(free).args(options);
                let ended = Process::start(command, Stdio::null()).wait();
                let output = ended.output.replace("\": ", ": ");
                assert!(
                    matches!(ended.status.code(), Some(1 | 2)) && output.contains(told),
                    "{language:?} {options:?}: {output}"
                );
            }
        }
    }
}
