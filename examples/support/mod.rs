//! What the examples share: the command line, and OpenSSL contexts made from it. Nothing of it is about DTLS sessions.

#![allow(dead_code)]

use std::fmt::Display;
use std::process::exit;
use std::str::FromStr;

use openssl::ssl::{SslContext, SslContextBuilder, SslFiletype, SslMethod, SslVerifyMode};

/// Words like `--port 4444`, taken out one by one.
pub struct Args {
    help: &'static str,
    words: Vec<String>,
}

impl Args {
    /// The command line. With `-h` the help is shown, and that is all.
    pub fn new(help: &'static str) -> Args {
        let words: Vec<String> = std::env::args().skip(1).collect();
        if words.iter().any(|word| word == "-h" || word == "--help") {
            println!("{help}");
            exit(0);
        }
        Args { help, words }
    }

    /// The value behind a word.
    pub fn option<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let at = self.words.iter().position(|word| word == name)?;
        if at + 1 == self.words.len() {
            self.refuse(format_args!("{name} wants a value"));
        }
        let value = self.words.drain(at..at + 2).next_back().unwrap_or_default();
        match value.parse() {
            Ok(value) => Some(value),
            Err(why) => self.refuse(format_args!("{name} {value}: {why}")),
        }
    }

    /// The value behind a word, or what it is without.
    pub fn or<T: FromStr<Err: Display>>(&mut self, name: &str, default: T) -> T {
        self.option(name).unwrap_or(default)
    }

    /// Whether a word without a value is there.
    pub fn flag(&mut self, name: &str) -> bool {
        let at = self.words.iter().position(|word| word == name);
        at.map(|at| self.words.remove(at)).is_some()
    }

    /// Refuses what is left.
    pub fn finish(self) {
        if let Some(word) = self.words.first() {
            self.refuse(format_args!("{word}?"));
        }
    }

    fn refuse(&self, why: impl Display) -> ! {
        eprintln!("{why}\n\n{}", self.help);
        exit(2);
    }
}

/// The options of [`server_context`].
pub struct Identity {
    cert: String,
    key: String,
    ca: Option<String>,
    psk: Option<Vec<u8>>,
    require_client_cert: bool,
    keylog: Option<String>,
}

/// What [`Identity::take`] reads, for the help of a server.
#[allow(unused_macros)]
macro_rules! identity_help {
    () => {
        "\
  --cert FILE            certificate chain, PEM (certs/out/server-ecdsa.pem)
  --key FILE             its private key, PEM (certs/out/server-ecdsa.key)
  --ca FILE              certificates of the CAs that clients' certificates are checked against
  --require-client-cert  refuse clients without a certificate of one of those CAs
  --psk HEX              a key that clients with the identity \"client\" may use in the place of certificates
  --keylog FILE          write the sessions' secrets there, for Wireshark: whoever has them reads everything"
    };
}

impl Identity {
    /// Reads its words.
    pub fn take(args: &mut Args) -> Identity {
        let psk: Option<String> = args.option("--psk");
        Identity {
            cert: args.or("--cert", "certs/out/server-ecdsa.pem".to_owned()),
            key: args.or("--key", "certs/out/server-ecdsa.key".to_owned()),
            ca: args.option("--ca"),
            psk: psk.map(|hex| bytes(&hex).unwrap_or_else(|| args.refuse("--psk wants an even number of hex digits"))),
            require_client_cert: args.flag("--require-client-cert"),
            keylog: args.option("--keylog"),
        }
    }

    /// A context for the sessions of a server.
    pub fn context(&self) -> Result<SslContext, Box<dyn std::error::Error>> {
        let mut context = SslContext::builder(SslMethod::dtls_server())?;
        context.set_cipher_list("ECDHE+AESGCM:ECDHE+CHACHA20:PSK+AESGCM")?;
        context.set_certificate_chain_file(&self.cert).map_err(|why| format!("{}: {why}", self.cert))?;
        context.set_private_key_file(&self.key, SslFiletype::PEM).map_err(|why| format!("{}: {why}", self.key))?;
        if let Some(ca) = &self.ca {
            context.set_ca_file(ca).map_err(|why| format!("{ca}: {why}"))?;
        }
        if self.require_client_cert {
            context.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        } else if self.ca.is_some() {
            context.set_verify(SslVerifyMode::PEER);
        }
        // Without one, libssl refuses to resume sessions of clients with certificates.
        context.set_session_id_context(b"dv_dtls example")?;
        if let Some(psk) = self.psk.clone() {
            context.set_psk_server_callback(move |_, identity, key| {
                Ok(match identity {
                    Some(b"client") => fill(key, &psk),
                    _ => 0,
                })
            });
        }
        log_keys(&mut context, self.keylog.as_deref())?;
        Ok(context.build())
    }
}

/// A context for the sessions of a client, with the words `--ca`, `--cert`, `--key` and `--psk`.
pub fn client_context(args: &mut Args) -> Result<SslContext, Box<dyn std::error::Error>> {
    let mut context = SslContext::builder(SslMethod::dtls_client())?;
    let ca = args.or("--ca", "certs/out/ca.pem".to_owned());
    context.set_ca_file(&ca).map_err(|why| format!("{ca}: {why}"))?;
    if let Some(cert) = args.option::<String>("--cert") {
        context.set_certificate_chain_file(&cert).map_err(|why| format!("{cert}: {why}"))?;
    }
    if let Some(key) = args.option::<String>("--key") {
        context.set_private_key_file(&key, SslFiletype::PEM).map_err(|why| format!("{key}: {why}"))?;
    }
    if let Some(hex) = args.option::<String>("--psk") {
        let psk = bytes(&hex).unwrap_or_else(|| args.refuse("--psk wants an even number of hex digits"));
        context.set_cipher_list("PSK+AESGCM")?;
        context.set_psk_client_callback(move |_, _, identity, key| {
            fill(identity, b"client\0");
            Ok(fill(key, &psk))
        });
    }
    log_keys(&mut context, args.option::<String>("--keylog").as_deref())?;
    Ok(context.build())
}

/// Lets OpenSSL write the secrets of all sessions to a file, in the format that Wireshark reads (SSLKEYLOGFILE).
fn log_keys(context: &mut SslContextBuilder, path: Option<&str>) -> Result<(), Box<dyn std::error::Error>> {
    let Some(path) = path else { return Ok(()) };
    let file = std::fs::File::options().create(true).append(true).open(path).map_err(|why| format!("{path}: {why}"))?;
    context.set_keylog_callback(move |_, line| {
        use std::io::Write;
        // One write a line: they come from several threads.
        let _ = (&file).write_all(format!("{line}\n").as_bytes());
    });
    Ok(())
}

/// Copies as much as fits; 0 says that nothing does.
fn fill(to: &mut [u8], from: &[u8]) -> usize {
    if from.len() > to.len() {
        return 0;
    }
    to[..from.len()].copy_from_slice(from);
    from.len()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    if hex.is_empty() || !hex.len().is_multiple_of(2) || !hex.is_ascii() {
        return None;
    }
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect()
}
