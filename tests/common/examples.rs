//! The example programs, in both languages.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::process::Process;
use super::{certificates, directory, examples, root, succeed};

/// What an example is written in.
#[derive(Clone, Copy, Debug)]
pub enum Language {
    C,
    Rust,
}

impl Language {
    pub const BOTH: [Language; 2] = [Language::C, Language::Rust];

    /// An example, which has the certificates of the tests and starts in the package's folder.
    pub fn program(self, name: &str) -> Command {
        static RUST: OnceLock<PathBuf> = OnceLock::new();
        let folder: &Path = match self {
            Language::C => examples(),
            Language::Rust => RUST.get_or_init(|| {
                // With the features of the tests, so that nothing is built twice.
                let features: &[&str] =
                    if cfg!(feature = "test-hooks") { &["--features", "dv-dtls/test-hooks"] } else { &[] };
                build(&[&["--examples"], features].concat(), "debug/examples")
            }),
        };
        certificates();
        let mut command = Command::new(folder.join(name));
        // That it is set is no request.
        command.current_dir(root()).env("SSLKEYLOGFILE", unasked_keys());
        command
    }

    /// Starts a server on 127.0.0.1.
    pub fn serve(self, name: &str, options: &[&str]) -> Server {
        self.serve_at(name, SocketAddr::from(([127, 0, 0, 1], 0)), options)
    }

    /// Starts a server at an address; port 0 is a free one.
    pub fn serve_at(self, name: &str, at: SocketAddr, options: &[&str]) -> Server {
        Server::start(self.program(name), at, options)
    }

    /// What `echo_client` has to say about a server, and whether it was answered.
    pub fn asks(self, to: SocketAddr, options: &[&str]) -> (String, bool) {
        let mut command = self.program("echo_client");
        command.args(["--host", &to.ip().to_string(), "--port", &to.port().to_string()]).args(options);
        let ended = Process::start(command, Stdio::null()).wait();
        (ended.output, ended.status.success())
    }
}

/// A server that runs. It is killed when dropped.
pub struct Server {
    pub address: SocketAddr,
    pub process: Process,
}

impl Server {
    /// Starts one of the servers, whoever has built it.
    pub fn start(mut program: Command, at: SocketAddr, options: &[&str]) -> Server {
        program.args(["--host", &at.ip().to_string(), "--port", &at.port().to_string()]).args(options);
        // The end of its input would be the end of one that listens to its terminal.
        let process = Process::start(program, Stdio::piped());
        let port = process.until(|output| {
            let (line, _) = output.split_once("\nlistening on ")?.1.split_once('\n')?;
            line.rsplit([' ', ':']).next()?.parse().ok()
        });
        Server { address: SocketAddr::new(at.ip(), port), process }
    }
}

/// What nobody must write.
pub fn unasked_keys() -> PathBuf {
    directory().join("unasked.keys")
}

/// Builds something of this workspace where the tests are built, and says where it is.
pub fn build(what: &[&str], folder: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a target directory");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked"]).args(what).current_dir(root()).env("CARGO_TARGET_DIR", target);
    succeed(&mut cargo);
    target.join(folder)
}

/// Writes a file of this test's.
pub fn file(name: &str, contents: impl AsRef<[u8]>) -> String {
    let path = directory().join(name);
    std::fs::write(&path, contents).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    path.to_str().expect("a path in UTF-8").to_owned()
}
