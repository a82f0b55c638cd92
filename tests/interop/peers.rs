//! The peers: where each one comes from, how it is built, and what it can do.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::common::root;

/// What not every peer can do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Can {
    /// Be a client with certificates.
    Client,
    /// Be a server.
    Server,
    /// Send its own hello in fragments.
    Fragment,
    /// Resume a session.
    Resume,
    /// Show a certificate of its own.
    Certificate,
    /// Be a client without a certificate.
    BeNobody,
    /// Ask a client for its certificate.
    AskForCertificate,
    /// Use a pre-shared key.
    Psk,
    /// Say goodbye.
    Close,
    /// Lose a message without any loss on the way.
    Lose,
}

/// An implementation that others wrote.
pub struct Peer {
    pub name: &'static str,
    abilities: &'static [Can],
    made: Make,
}

enum Make {
    /// One of the programs of the crate in peers/.
    Cargo,
    /// The program in pion/, with Debian's packages.
    Go,
    /// A script in npm/.
    Npm,
    /// The script in python/.
    Pip,
}

use Can::*;

pub const PEERS: &[Peer] = &[
    // Its Close ends a goroutine that may close the socket before the goodbye is written: 4 of 152 did not leave.
    Peer {
        name: "pion",
        abilities: &[Client, Server, Fragment, Resume, Certificate, BeNobody, AskForCertificate, Psk],
        made: Make::Go,
    },
    Peer {
        name: "dimpl",
        abilities: &[Client, Server, Fragment, Certificate, AskForCertificate, Close],
        made: Make::Cargo,
    },
    Peer {
        name: "webrtc",
        abilities: &[Client, Server, Fragment, Certificate, BeNobody, AskForCertificate, Psk, Close],
        made: Make::Cargo,
    },
    // Its first messages have the record numbers 1, 2, 3..., and its Finished has had one of these: that message is a copy to
    // whoever follows RFC 6347, and dropped.
    Peer { name: "werift", abilities: &[Client, Server, Lose], made: Make::Npm },
    Peer { name: "node-dtls-client", abilities: &[Psk, Close], made: Make::Npm },
    Peer { name: "pyopenssl", abilities: &[Client, Fragment, Certificate, BeNobody, Close], made: Make::Pip },
];

impl Peer {
    pub fn can(&self, ability: Can) -> bool {
        self.abilities.contains(&ability)
    }

    /// What this machine does not have, in words.
    pub fn lacks(&self) -> Option<&'static str> {
        match self.made {
            Make::Cargo => cargo().err(),
            Make::Go => go().err(),
            Make::Npm => npm().err(),
            Make::Pip => pip().err(),
        }
    }

    /// Its program, only asked for when nothing is lacking.
    pub fn command(&self) -> Command {
        let built = "built before";
        match self.made {
            Make::Cargo => Command::new(cargo().expect(built).join(self.name)),
            Make::Go => Command::new(go().expect(built)),
            Make::Npm => {
                let mut command = Command::new("node");
                command.arg(npm().expect(built).join(self.name).with_extension("js"));
                command
            }
            Make::Pip => {
                let mut command = Command::new(pip().expect(built).join("bin/python"));
                command.arg(here().join("python/client.py"));
                command
            }
        }
    }
}

fn here() -> PathBuf {
    root().join("tests/interop")
}

/// A folder for what is built, which stays for the next run.
fn place(name: &str) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop-peers").join(name);
    std::fs::create_dir_all(&place).expect("room");
    place
}

fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

type Built = OnceLock<Result<PathBuf, &'static str>>;

fn cargo() -> Result<PathBuf, &'static str> {
    static BUILT: Built = OnceLock::new();
    let build = || {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--manifest-path"]).arg(here().join("peers/Cargo.toml"));
        let place = place("cargo");
        works(cargo.arg("--target-dir").arg(&place)).then(|| place.join("debug"))
    };
    BUILT.get_or_init(|| build().ok_or("its crate cannot be had or built")).clone()
}

fn go() -> Result<PathBuf, &'static str> {
    static BUILT: Built = OnceLock::new();
    let build = || {
        let mut go = Command::new("go");
        go.env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode").current_dir(here().join("pion"));
        let program = place("go").join("pion");
        works(go.args(["build", "-o"]).arg(&program)).then_some(program)
    };
    BUILT.get_or_init(|| build().ok_or("apt-get install golang-go golang-github-pion-dtls.v2-dev")).clone()
}

fn npm() -> Result<PathBuf, &'static str> {
    static BUILT: Built = OnceLock::new();
    let build = || {
        let place = place("npm");
        for name in ["package.json", "werift.js", "node-dtls-client.js"] {
            std::fs::copy(here().join("npm").join(name), place.join(name)).expect("copied");
        }
        let mut npm = Command::new("npm");
        works(npm.args(["install", "--no-audit", "--no-fund", "--no-package-lock"]).current_dir(&place))
            .then_some(place)
    };
    BUILT.get_or_init(|| build().ok_or("node, npm or its package cannot be had")).clone()
}

fn pip() -> Result<PathBuf, &'static str> {
    static BUILT: Built = OnceLock::new();
    let build = || {
        let place = place("python");
        let venv = works(Command::new("python3").args(["-m", "venv"]).arg(&place));
        let mut pip = Command::new(place.join("bin/pip"));
        pip.args(["install", "--quiet", "--requirement"]).arg(here().join("python/requirements.txt"));
        (venv && works(&mut pip)).then_some(place)
    };
    BUILT.get_or_init(|| build().ok_or("python3, its venv or the package cannot be had")).clone()
}
