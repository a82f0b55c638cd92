//! The project's load tool, as a client of many heads and as a bad network.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use super::process::Process;
use super::{root, succeed};

/// The tool's longest run ends by itself long before this.
const LONGEST: Duration = Duration::from_secs(1800);

/// The tool, built when it is first needed: for speed, since what it measures is the server and not itself.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--locked", "--release", "--package", "dv-load"]).current_dir(root());
        // The directory of the tests' own build, wherever that is.
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a target directory");
        succeed(build.env("CARGO_TARGET_DIR", target));
        target.join("release/dv-load")
    })
}

/// The line of JSON of a run.
pub struct Report {
    pub line: String,
}

impl Report {
    fn of(output: &str) -> Report {
        let line = output.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{output}"));
        Report { line: line.to_string() }
    }

    pub fn field(&self, name: &str) -> &str {
        let begin =
            self.line.split_once(&format!("\"{name}\": ")).unwrap_or_else(|| panic!("no {name} in {}", self.line)).1;
        begin.split([',', '}']).next().unwrap_or_default()
    }

    pub fn number(&self, name: &str) -> f64 {
        self.field(name).parse().unwrap_or_else(|_| panic!("{name} in {}", self.line))
    }

    /// Asserts that `number` is at least so much.
    pub fn at_least(&self, name: &str, least: f64) {
        assert!(self.number(name) >= least, "{name} below {least}: {}", self.line);
    }

    /// Asserts that `number` is at most so much.
    pub fn at_most(&self, name: &str, most: f64) {
        assert!(self.number(name) <= most, "{name} above {most}: {}", self.line);
    }
}

/// Runs a subcommand of the tool: `run("handshake", address, "--count 10")`.
pub fn run(subcommand: &str, to: SocketAddr, options: &str) -> Report {
    let mut command = Command::new(program());
    command.arg(subcommand).arg("--to").arg(to.to_string()).args(options.split_whitespace());
    let ended = Process::start(command, Stdio::null()).wait_for(LONGEST);
    let report = Report::of(&ended.output);
    // For those who want the figures of what passed, too (with --nocapture).
    if std::env::var_os("DV_TEST_SHOW").is_some() {
        eprintln!("{options}: {}", report.line);
    }
    report
}

/// A bad network in front of a server.
pub struct Proxy {
    /// Where clients find it.
    pub address: SocketAddr,
    process: Process,
}

impl Proxy {
    /// `options` are the faults, for instance `--drop 0.2`.
    pub fn start(to: SocketAddr, options: &str) -> Proxy {
        let mut command = Command::new(program());
        let listen = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 0);
        command.args(["proxy", "--listen", &listen.to_string(), "--to", &to.to_string(), "--seconds", "1800"]);
        command.args(options.split_whitespace());
        let process = Process::start(command, Stdio::null());
        let address = process.until(|output| {
            let at = output.lines().find_map(|line| line.strip_prefix("dv-load proxy: "))?;
            at.split(' ').next()?.parse().ok()
        });
        Proxy { address, process }
    }

    /// Ends it; what it has done.
    pub fn end(self) -> Report {
        self.process.signal(libc::SIGTERM);
        Report::of(&self.process.wait().output)
    }
}
