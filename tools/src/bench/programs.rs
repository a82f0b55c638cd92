//! The two sides: the original server, and its unchanged main on the library. Cut out of the document, built, run.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::client::{Client, Profile, Timer};
use crate::connect::{Plan, connect_all};
use crate::document::{Document, item, path};
use crate::process::Process;
use crate::report::Progress;

/// Whose helpers a program uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Its own, those of the document.
    Original,
    /// The library's.
    Library,
}

impl Side {
    /// Both.
    pub const BOTH: [Side; 2] = [Side::Original, Side::Library];
}

/// What was built.
pub struct Programs {
    directory: PathBuf,
    root: PathBuf,
}

impl Programs {
    /// Builds servers and look-up benchmarks of both sides, with -O2, into `directory`.
    pub fn build(directory: PathBuf) -> Result<Self, String> {
        let document = Document::read().ok_or_else(|| format!("no document at {}", path().display()))?;
        fs::create_dir_all(&directory).map_err(|why| format!("{}: {why}", directory.display()))?;
        let programs = Programs { directory, root: crate::common::root() };
        let main = item(&document.server, "dv_ssl_server_main");
        let helpers: Vec<&str> =
            document.server.iter().filter(|item| item.name != main.name).map(|item| item.text.as_str()).collect();
        let find = include_str!("find.c");
        for side in Side::BOTH {
            let begin = match side {
                Side::Original => {
                    format!("#define PROGRAM_IS_ORIGINAL\n#include \"prelude.h\"\n{}\n", helpers.join("\n\n"))
                }
                Side::Library => "#include \"prelude.h\"\n#include <dv_dtls.h>\n".to_owned(),
            };
            // The original main forgets to initialise its table; main.h does it for who owns one.
            let owns = if side == Side::Original { "#define PROGRAM_OWNS_TABLE\n" } else { "" };
            let server = format!("{begin}{}\n{owns}#define PROGRAM_IS_SERVER\n#include \"main.h\"\n", main.text);
            programs.compile("server", side, &server)?;
            programs.compile("find", side, &format!("{begin}#include <stdint.h>\n{find}"))?;
        }
        let (source, heap) = (programs.directory.join("heap.c"), programs.heap_library());
        fs::write(&source, include_str!("heap.c")).map_err(|why| format!("{}: {why}", source.display()))?;
        output(compiler().args(["-shared", "-fPIC", "-O2"]).arg(&source).arg("-o").arg(heap).arg("-lpthread"))?;
        Ok(programs)
    }

    fn heap_library(&self) -> PathBuf {
        self.directory.join("heap.so")
    }

    /// The environment in which a server writes down what its heap holds, and the file that it writes to.
    pub fn heap_watch(&self) -> ([(&'static str, String); 2], PathBuf) {
        let file = self.directory.join("heap.txt");
        let text = |path: &Path| path.display().to_string();
        ([("LD_PRELOAD", text(&self.heap_library())), ("DV_HEAP_FILE", text(&file))], file)
    }

    fn compile(&self, name: &str, side: Side, source: &str) -> Result<(), String> {
        let program = self.program(name, side);
        let file = program.with_extension("c");
        fs::write(&file, source).map_err(|why| format!("{}: {why}", file.display()))?;
        let from =
            |variable: &str, or: &str| std::env::var_os(variable).map_or_else(|| self.root.join(or), PathBuf::from);
        let (library, header) = (from("DV_LIBDIR", "build"), from("DV_INCLUDEDIR", "include"));
        let mut cc = compiler();
        cc.args(["-std=gnu11", "-O2", "-w", "-DPROGRAM_IS_MEASURED", "-I"]).arg(self.root.join("tests/original"));
        cc.arg("-I").arg(header).arg(&file).arg("-o").arg(&program);
        if side == Side::Library {
            cc.arg("-L").arg(&library).arg("-ldv_dtls").arg(format!("-Wl,-rpath,{}", library.display()));
        }
        output(cc.args(["-lssl", "-lcrypto"])).map(drop)
    }

    fn program(&self, name: &str, side: Side) -> PathBuf {
        self.directory.join(format!("{name}-{side:?}").to_lowercase())
    }

    /// Nanoseconds of one look-up among `connections`.
    pub fn find(&self, side: Side, connections: usize) -> Result<f64, String> {
        let text = output(Command::new(self.program("find", side)).arg(connections.to_string()))?;
        text.trim().parse().map_err(|why| format!("{text:?}: {why}"))
    }

    /// Starts a server, with `environment` and behind `wrapper`, and waits until it serves.
    pub fn serve(&self, side: Side, wrapper: &[&str], environment: &[(&str, &str)]) -> Result<Server, String> {
        let probe = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
        let at = probe.map_err(|why| format!("no free port: {why}"))?;
        let certs = self.root.join("certs/out");
        let program = self.program("server", side);
        let mut words = wrapper.iter().map(Path::new).chain([program.as_path()]);
        let mut command = Command::new(words.next().expect("the program at least"));
        command.args(words).args(["server", "-p", &at.port().to_string(), "-c"]).arg(certs.join("server-ecdsa.pem"));
        command.arg("-k").arg(certs.join("server-ecdsa.key")).envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|why| format!("{command:?}: {why}"))?;
        let server = Server { child, at };
        let profile = Profile::new(None, Timer::Fast)?;
        let deadline = Duration::from_secs(30);
        let plan = Plan { to: at, sources: 1, count: 1, concurrency: 1, rate: 1.0, deadline, profile: &profile };
        let outcome = connect_all(plan, &mut Progress::new(), |_, _| {})?;
        if outcome.clients.is_empty() {
            return Err(format!("{command:?} does not serve"));
        }
        outcome.clients.into_iter().for_each(Client::close);
        Ok(server)
    }
}

/// A running server; it ends when this is dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub at: SocketAddr,
}

impl Server {
    /// The process, to be measured.
    pub fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// Ends it in the way that lets a tracing wrapper write down what it saw.
    pub fn terminate(mut self) -> Result<(), String> {
        let pid = self.child.id().to_string();
        output(Command::new("kill").args(["-TERM", &pid]))?;
        self.child.wait().map(drop).map_err(|why| format!("wait: {why}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn compiler() -> Command {
    Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
}

/// What a command that has to succeed prints.
fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|why| format!("{command:?}: {why}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
