//! What the examples share: the command line, and OpenSSL contexts made from it. Nothing of it is about DTLS sessions.

#![allow(dead_code)]

use std::fmt::{self, Debug, Display, Formatter};
use std::fs::File;
use std::io::Write;
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt;
use std::process::exit;
use std::str::FromStr;

use openssl::error::ErrorStack;
use openssl::sha::sha256;
use openssl::ssl::{SslContext, SslContextBuilder, SslFiletype, SslMethod, SslVerifyMode};
use openssl::x509::store::X509Lookup;
use openssl::x509::verify::X509VerifyFlags;

/// Why a program ends. What `main` returns is shown with Debug, so this one's is the text itself.
pub struct Failure(String);

impl<E: Display> From<E> for Failure {
    fn from(why: E) -> Failure {
        Failure(why.to_string())
    }
}

impl Debug for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names what OpenSSL could not use, and why not.
fn about(what: &str) -> impl FnOnce(ErrorStack) -> String {
    move |stack| {
        let reasons: Vec<_> = stack.errors().iter().filter_map(|error| error.reason()).collect();
        format!("{what}: {}", reasons.join(", "))
    }
}

/// The same for a file: OpenSSL has no words for what the system said.
fn about_file(path: &str) -> impl FnOnce(ErrorStack) -> String {
    move |stack| File::open(path).err().map_or_else(|| about(path)(stack), |why| format!("{path}: {why}"))
}

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
            self.refuse(format_args!("{name} needs a value"));
        }
        let value = self.words.drain(at..at + 2).next_back().unwrap_or_default();
        match value.parse() {
            Ok(value) => Some(value),
            Err(why) => self.refuse(format_args!("{name} {value}: {why}")),
        }
    }

    /// The values behind all words of that name.
    pub fn all<T: FromStr<Err: Display>>(&mut self, name: &str) -> Vec<T> {
        std::iter::from_fn(|| self.option(name)).collect()
    }

    /// The value behind a word, or what it is without.
    pub fn or<T: FromStr<Err: Display>>(&mut self, name: &str, default: T) -> T {
        self.option(name).unwrap_or(default)
    }

    /// The number behind a word.
    pub fn number<T: FromStr + PartialOrd + Display>(&mut self, name: &str, possible: RangeInclusive<T>) -> Option<T> {
        let word: String = self.option(name)?;
        let number = word.parse().ok().filter(|number| possible.contains(number));
        let (least, most) = (possible.start(), possible.end());
        Some(number.unwrap_or_else(|| self.refuse(format_args!("{name} {word}: not a number from {least} to {most}"))))
    }

    /// The bytes behind a word, in hex digits.
    pub fn key(&mut self, name: &str) -> Option<Vec<u8>> {
        let hex: String = self.option(name)?;
        Some(bytes(&hex).unwrap_or_else(|| self.refuse(format_args!("{name} must be an even number of hex digits"))))
    }

    /// Whether a word without a value is there.
    pub fn flag(&mut self, name: &str) -> bool {
        let at = self.words.iter().position(|word| word == name);
        at.map(|at| self.words.remove(at)).is_some()
    }

    /// Refuses what is left.
    pub fn finish(self) {
        if let Some(word) = self.words.first() {
            self.refuse(format_args!("unexpected argument '{word}'"));
        }
    }

    /// Says what is wrong with the command line, and ends.
    pub fn refuse(&self, why: impl Display) -> ! {
        let (name, _) = self.help.split_once(' ').unwrap_or((self.help, ""));
        eprintln!("{why}\n{name} -h shows the options");
        exit(2);
    }
}

/// Who a server is, and whom it trusts.
pub struct Identity {
    /// The first certificate is for everybody, the others for clients that ask for one of their names.
    certs: Vec<String>,
    keys: Vec<String>,
    ca: Option<String>,
    crl: Option<String>,
    require_client_cert: bool,
    keys_of_clients: Keys,
    ciphers: String,
    keylog: Option<String>,
}

/// Keys that clients may use instead of certificates.
#[derive(Clone)]
struct Keys {
    /// That of the identity "client".
    one: Option<Vec<u8>>,
    /// Those of others, a line for each.
    file: Option<String>,
}

impl Keys {
    fn are_any(&self) -> bool {
        self.one.is_some() || self.file.is_some()
    }

    fn look_up(&self, identity: &[u8]) -> Option<Vec<u8>> {
        if identity == b"client" && self.one.is_some() {
            return self.one.clone();
        }
        // Read anew each time, so that a key can come and go while the server runs.
        let lines = std::fs::read_to_string(self.file.as_deref()?).ok()?;
        let mut keys = lines.lines().filter_map(Keys::read);
        keys.find(|(known, _)| known.as_bytes() == identity).map(|(_, key)| key)
    }

    /// A line of the file: an identity and its key.
    fn read(line: &str) -> Option<(&str, Vec<u8>)> {
        let (identity, hex) = line.split_once(' ')?;
        Some((identity, bytes(hex.trim())?))
    }

    /// Tells the first line of the file that is none.
    fn check(&self) -> Result<(), Failure> {
        let Some(file) = &self.file else { return Ok(()) };
        let lines = std::fs::read_to_string(file).map_err(|why| format!("{file}: {why}"))?;
        match lines.lines().position(|line| Keys::read(line).is_none()) {
            Some(at) => Err(format!("{file}: line {} is not \"IDENTITY HEX\"", at + 1).into()),
            None => Ok(()),
        }
    }
}

/// What [`Identity::take`] reads, for the help of a server.
#[allow(unused_macros)]
macro_rules! identity_help {
    () => {
        "  --cert FILE            certificate chain, PEM (certs/out/server-ecdsa.pem);
                         repeat it, with --key, for other server names
  --key FILE             its private key, PEM (certs/out/server-ecdsa.key; with --cert: in the same file)
  --ca FILE              CA certificates to check clients' certificates with
  --crl FILE             revocation lists of these CAs, PEM
  --require-client-cert  refuse clients without a certificate of one of those CAs
  --psk HEX              the pre-shared key of the identity \"client\", beside certificates
  --psk-file FILE        keys of other identities, one line \"IDENTITY HEX\" each
  --ciphers LIST         cipher suites (ECDHE+AESGCM:ECDHE+CHACHA20:PSK+AESGCM); PSK+AESGCM: pre-shared keys only
  --keylog FILE          write the sessions' secrets there, for Wireshark: whoever has them can read everything
  -h                     this text"
    };
}

impl Identity {
    /// Reads its words.
    pub fn take(args: &mut Args) -> Identity {
        let mut identity = Identity {
            certs: args.all("--cert"),
            keys: args.all("--key"),
            ca: args.option("--ca"),
            crl: args.option("--crl"),
            require_client_cert: args.flag("--require-client-cert"),
            keys_of_clients: Keys { one: args.key("--psk"), file: args.option("--psk-file") },
            ciphers: args.or("--ciphers", "ECDHE+AESGCM:ECDHE+CHACHA20:PSK+AESGCM".to_owned()),
            keylog: args.option("--keylog"),
        };
        if identity.keys.len() > identity.certs.len() {
            args.refuse("--key needs the --cert that it belongs to");
        }
        if identity.certs.is_empty() {
            identity.certs = vec!["certs/out/server-ecdsa.pem".to_owned()];
            identity.keys = vec!["certs/out/server-ecdsa.key".to_owned()];
        }
        if identity.ca.is_none() && (identity.require_client_cert || identity.crl.is_some()) {
            args.refuse("--require-client-cert and --crl need --ca");
        }
        identity
    }

    /// A context for the sessions of a server.
    pub fn context(&self) -> Result<SslContext, Failure> {
        let mut context = SslContext::builder(SslMethod::dtls_server())?;
        context.set_cipher_list(&self.ciphers).map_err(about(&self.ciphers))?;
        for (number, cert) in self.certs.iter().enumerate() {
            let key = self.keys.get(number).unwrap_or(cert);
            match number {
                0 => show(&mut context, cert, key)?,
                _ => dv_dtls::add_certificate(&mut context, cert, key)?,
            }
        }
        if let Some(ca) = &self.ca {
            context.set_ca_file(ca).map_err(about_file(ca))?;
            let require =
                if self.require_client_cert { SslVerifyMode::FAIL_IF_NO_PEER_CERT } else { SslVerifyMode::NONE };
            context.set_verify(SslVerifyMode::PEER | require);
        }
        if let Some(file) = &self.crl {
            check_revocations(&mut context, file).map_err(about_file(file))?;
        }
        context.set_session_id_context(&self.rules()?)?;
        self.keys_of_clients.check()?;
        if self.keys_of_clients.are_any() {
            let keys = self.keys_of_clients.clone();
            // OpenSSL asks for the key of an identity: 0 says that there is none. Threads call it, several at once.
            context.set_psk_server_callback(move |_, identity, key| {
                let psk = identity.and_then(|identity| keys.look_up(identity));
                Ok(psk.map_or(0, |psk| fill(key, &psk)))
            });
        }
        log_keys(&mut context, self.keylog.as_deref())?;
        Ok(context.build())
    }

    /// Who resumes a session shows neither certificate nor key. So only those go on that were made under the same rules, be it
    /// at another server of the fleet.
    fn rules(&self) -> Result<[u8; 32], Failure> {
        let cas = self.ca.as_ref().map_or(Ok(Vec::new()), std::fs::read)?;
        let rules = format!("{} {} ", self.require_client_cert, self.ciphers);
        Ok(sha256(&[rules.as_bytes(), &cas].concat()))
    }
}

/// The certificate that a context shows, and its key.
fn show(context: &mut SslContextBuilder, cert: &str, key: &str) -> Result<(), Failure> {
    context.set_certificate_chain_file(cert).map_err(about_file(cert))?;
    context.set_private_key_file(key, SslFiletype::PEM).map_err(about_file(key))?;
    // A key of another type would stand beside the certificate, and both be good for nothing.
    Ok(context.check_private_key().map_err(|_| format!("{key} is not the key of {cert}"))?)
}

/// Refuses peers whose certificate a list of its CA names. A CA without a list in the file is not trusted any more.
fn check_revocations(context: &mut SslContextBuilder, file: &str) -> Result<(), ErrorStack> {
    let store = context.cert_store_mut();
    store.add_lookup(X509Lookup::file())?.load_crl_file(file, SslFiletype::PEM)?;
    store.set_flags(X509VerifyFlags::CRL_CHECK)
}

/// A context for the sessions of a client, with the words `--ca`, `--crl`, `--cert`, `--key`, `--psk`, `--ciphers` and
/// `--keylog`.
pub fn client_context(args: &mut Args) -> Result<SslContext, Failure> {
    let mut context = SslContext::builder(SslMethod::dtls_client())?;
    let ca = args.or("--ca", "certs/out/ca.pem".to_owned());
    context.set_ca_file(&ca).map_err(about_file(&ca))?;
    if let Some(file) = args.option::<String>("--crl") {
        check_revocations(&mut context, &file).map_err(about_file(&file))?;
    }
    if let Some(cert) = args.option::<String>("--cert") {
        show(&mut context, &cert, &args.or("--key", cert.clone()))?;
    }
    if let Some(psk) = args.key("--psk") {
        context.set_cipher_list("PSK+AESGCM")?;
        context.set_psk_client_callback(move |_, _, identity, key| {
            fill(identity, b"client\0");
            Ok(fill(key, &psk))
        });
    }
    if let Some(ciphers) = args.option::<String>("--ciphers") {
        context.set_cipher_list(&ciphers).map_err(about(&ciphers))?;
    }
    log_keys(&mut context, args.option::<String>("--keylog").as_deref())?;
    Ok(context.build())
}

/// Lets OpenSSL write the secrets of all sessions to a file, in the format that Wireshark reads (SSLKEYLOGFILE).
fn log_keys(context: &mut SslContextBuilder, path: Option<&str>) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    let file =
        File::options().create(true).append(true).mode(0o600).open(path).map_err(|why| format!("{path}: {why}"))?;
    context.set_keylog_callback(move |_, line| {
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
