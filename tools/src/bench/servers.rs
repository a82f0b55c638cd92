//! The servers that are measured beside each other: built, started, stopped.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::client::Profile;
use crate::crowd::{Crowd, Talk};
use crate::document::{Document, item, path};
use crate::echo::Until;
use crate::process::Process;
use crate::report::Progress;
use crate::sys;

/// What a server is made of, and how it is told its port and its certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The main of the document, with its own helpers or with the library's.
    Document,
    /// The example for the server door, with more options.
    Example(&'static [&'static str]),
    /// One of benches/servers.
    Minimal(&'static Library),
}

/// What a server of benches/servers is built on.
#[derive(PartialEq, Eq)]
struct Library {
    /// The header that is there when the library is.
    header: &'static str,
    /// The macro in which the header says its version.
    version: &'static str,
    /// The package that brings it.
    package: &'static str,
    flags: &'static [&'static str],
}

const NONE: Library = Library { header: "stdlib.h", version: "", package: "libc6-dev", flags: &[] };
const OWN: Library =
    Library { header: "stdlib.h", version: "", package: "libc6-dev", flags: &["-ldv_dtls", "-lssl", "-lcrypto"] };
const OPENSSL: Library = Library {
    header: "openssl/ssl.h",
    // The one that everybody else here stands on, and that the bench names anyway.
    version: "",
    package: "libssl-dev",
    flags: &["-lssl", "-lcrypto"],
};
const GNUTLS: Library =
    Library { header: "gnutls/gnutls.h", version: "GNUTLS_VERSION", package: "libgnutls28-dev", flags: &["-lgnutls"] };
const MBEDTLS: Library = Library {
    header: "mbedtls/version.h",
    version: "MBEDTLS_VERSION_STRING",
    package: "libmbedtls-dev",
    flags: &["-lmbedtls", "-lmbedx509", "-lmbedcrypto"],
};
const WOLFSSL: Library = Library {
    header: "wolfssl/version.h",
    version: "LIBWOLFSSL_VERSION_STRING",
    package: "libwolfssl-dev",
    flags: &["-lwolfssl"],
};

/// Name on the command line, name for people, and what it is.
type Known = (&'static str, &'static str, Kind);

const KNOWN: [Known; 11] = [
    ("server", "server", Kind::Example(&[])),
    ("server-openssl", "server, OpenSSL's records", Kind::Example(&["--openssl-records"])),
    ("endpoint", "endpoint", Kind::Minimal(&OWN)),
    ("helpers", "helpers", Kind::Document),
    ("original", "original program", Kind::Document),
    ("calls", "its system calls only", Kind::Minimal(&NONE)),
    ("openssl", "OpenSSL", Kind::Minimal(&OPENSSL)),
    ("gnutls", "GnuTLS", Kind::Minimal(&GNUTLS)),
    ("mbedtls", "Mbed TLS", Kind::Minimal(&MBEDTLS)),
    ("wolfssl", "wolfSSL", Kind::Minimal(&WOLFSSL)),
    ("udp", "UDP without DTLS", Kind::Minimal(&NONE)),
];

/// A server that was built.
#[derive(Clone)]
pub struct Program {
    /// Its name on the command line.
    pub id: &'static str,
    /// Its name for people.
    pub name: &'static str,
    kind: Kind,
    file: PathBuf,
}

/// The servers that were built, and what there is to say about it.
pub struct Built {
    /// In the order in which they are shown.
    pub programs: Vec<Program>,
    /// The libraries with their versions.
    pub versions: Vec<String>,
    /// Where everything was built.
    pub directory: PathBuf,
    document: Option<Document>,
}

impl Built {
    /// Builds the servers `wanted` (all, when it is empty) into `directory`. What cannot be built here is left out, with a line
    /// that says why.
    pub fn new(wanted: &[&str], directory: PathBuf) -> Result<Self, String> {
        fs::create_dir_all(&directory).map_err(|why| format!("{}: {why}", directory.display()))?;
        if let Some(wrong) = wanted.iter().find(|id| KNOWN.iter().all(|(known, ..)| known != *id)) {
            return Err(format!("--servers: no server {wrong}; there are {}", KNOWN.map(|(id, ..)| id).join(", ")));
        }
        let document = Document::read();
        let mut built = Built { programs: Vec::new(), versions: Vec::new(), directory, document };
        for (id, name, kind) in KNOWN.into_iter().filter(|(id, ..)| wanted.is_empty() || wanted.contains(id)) {
            match built.build(id, kind)? {
                Ok(file) => built.programs.push(Program { id, name, kind, file }),
                Err(why) => eprintln!("{name} is left out: {why}"),
            }
        }
        Ok(built)
    }

    /// The server of that name, if it was built.
    pub fn get(&self, id: &str) -> Option<&Program> {
        self.programs.iter().find(|program| program.id == id)
    }

    /// The program's file; or, inside, why it cannot be built here.
    fn build(&mut self, id: &str, kind: Kind) -> Result<Result<PathBuf, String>, String> {
        match kind {
            Kind::Document => {
                if self.document.is_none() {
                    return Ok(Err(format!("no document at {}; DV_ORIGINAL_DOC says where it is", path().display())));
                }
                self.compile_document("server", id == "original", |begin, main| {
                    // The original main forgets to initialise its table; main.h does it for who owns one.
                    let owns = if id == "original" { "#define PROGRAM_OWNS_TABLE\n" } else { "" };
                    format!("{begin}{main}\n{owns}#define PROGRAM_IS_SERVER\n#include \"main.h\"\n")
                })
                .map(Ok)
            }
            Kind::Example(_) => {
                let file = library_directory().join("echo_server");
                let there = file.exists();
                Ok(if there { Ok(file) } else { Err(format!("no {}; make builds it", file.display())) })
            }
            Kind::Minimal(library) => {
                let probe = output(compiler().args(["-E", "-dM", "-x", "c", "-include", library.header, "/dev/null"]));
                let Ok(macros) = probe else {
                    let Library { header, package, .. } = library;
                    return Ok(Err(format!("<{header}> is missing (Debian: {package})")));
                };
                let define = format!("#define {} ", library.version);
                if let Some(version) = macros.lines().find_map(|line| line.strip_prefix(&define)) {
                    let name = KNOWN.iter().find(|known| known.0 == id).map_or(id, |known| known.1);
                    self.versions.push(format!("{name} {}", version.trim_matches('"')));
                }
                let file = self.directory.join(format!("echo-{id}"));
                let source = crate::common::root().join(format!("benches/servers/{id}.c"));
                compile(&source, &file, library.flags)?;
                Ok(Ok(file))
            }
        }
    }

    /// Builds a program of the document's helpers, or of the library's: `source` makes it of its beginning and the main.
    fn compile_document(
        &self,
        name: &str,
        original: bool,
        source: impl FnOnce(&str, &str) -> String,
    ) -> Result<PathBuf, String> {
        let document = self.document.as_ref().expect("asked for before");
        let main = item(&document.server, "dv_ssl_server_main");
        let helpers: Vec<&str> =
            document.server.iter().filter(|item| item.name != main.name).map(|item| item.text.as_str()).collect();
        let begin = if original {
            format!("#define PROGRAM_IS_ORIGINAL\n#include \"prelude.h\"\n{}\n", helpers.join("\n\n"))
        } else {
            "#include \"prelude.h\"\n#include <dv_dtls.h>\n".to_owned()
        };
        let program = self.directory.join(format!("{name}-{}", if original { "original" } else { "helpers" }));
        let file = program.with_extension("c");
        fs::write(&file, source(&begin, &main.text)).map_err(|why| format!("{}: {why}", file.display()))?;
        let library: &[&str] = if original { &[] } else { &["-ldv_dtls"] };
        compile(&file, &program, &[library, &["-w", "-DPROGRAM_IS_MEASURED", "-lssl", "-lcrypto"]].concat())?;
        Ok(program)
    }

    /// Nanoseconds of one look-up among `connections`, with the original's table or with the library's.
    pub fn find(&self, original: bool, connections: usize) -> Result<f64, String> {
        let make = |begin: &str, _: &str| format!("{begin}#include <stdint.h>\n{}", include_str!("find.c"));
        let program = self.compile_document("find", original, make)?;
        let text = output(Command::new(program).arg(connections.to_string()))?;
        text.trim().parse().map_err(|why| format!("{text:?}: {why}"))
    }
}

/// What malloc has given out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap {
    pub blocks: i64,
    pub bytes: i64,
}

/// Preloaded into a server, it says what malloc has given out there.
pub struct HeapWatch {
    library: PathBuf,
    file: PathBuf,
}

impl HeapWatch {
    /// Makes it in `directory`, for the server of that name.
    pub fn new(directory: &Path, server: &str) -> Result<Self, String> {
        let file = |name: &str| directory.join(name);
        let (source, library) = (file("heap.c"), file("heap.so"));
        fs::create_dir_all(directory).map_err(|why| format!("{}: {why}", directory.display()))?;
        fs::write(&source, include_str!("heap.c")).map_err(|why| format!("{}: {why}", source.display()))?;
        compile(&source, &library, &["-shared", "-fPIC", "-lpthread"])?;
        Ok(HeapWatch { library, file: file(&format!("heap-{server}.txt")) })
    }

    /// The environment that a server is started with.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [("LD_PRELOAD", self.library.display().to_string()), ("DV_HEAP_FILE", self.file.display().to_string())]
    }

    /// What is given out now.
    pub fn now(&self) -> Result<Heap, String> {
        // Two periods of the watch.
        thread::sleep(Duration::from_millis(250));
        let text = fs::read_to_string(&self.file).map_err(|why| format!("{}: {why}", self.file.display()))?;
        let mut numbers = text.split_whitespace().map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(blocks)), Some(Ok(bytes))) => Ok(Heap { blocks, bytes }),
            _ => Err(format!("{text:?} are not two numbers")),
        }
    }
}

/// How a server is started.
#[derive(Clone, Default)]
pub struct Start<'a> {
    /// The words before its own: a tool that watches it.
    pub wrapper: &'a [&'a str],
    /// More options of its own.
    pub options: &'a [&'a str],
    /// More of its environment.
    pub environment: &'a [(&'a str, String)],
    /// The processors that it runs on; none: any.
    pub processors: Vec<usize>,
}

impl Program {
    /// Whether it speaks DTLS.
    pub fn is_dtls(&self) -> bool {
        self.kind != Kind::Minimal(&NONE)
    }

    /// Starts it, and waits until it serves.
    pub fn start(&self, start: Start, profile: &Profile) -> Result<Server, String> {
        let probe = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
        let at = probe.map_err(|why| format!("no free port: {why}"))?;
        let port = at.port().to_string();
        let certificate = |name: &str| crate::common::root().join("certs/out").join(name).display().to_string();
        let (cert, key) = (certificate("server-ecdsa.pem"), certificate("server-ecdsa.key"));
        let own: Vec<&str> = match self.kind {
            Kind::Document => vec!["server", "-p", &port, "-c", &cert, "-k", &key],
            Kind::Example(more) => {
                let options = ["--host", "127.0.0.1", "--port", &port, "--cert", &cert, "--key", &key];
                options.iter().chain(more).copied().collect()
            }
            Kind::Minimal(_) => vec![&port, &cert, &key],
        };
        let mut words = start.wrapper.iter().map(Path::new).chain([self.file.as_path()]);
        let mut command = Command::new(words.next().expect("the program at least"));
        command.args(words).args(own).args(start.options);
        command.envs(start.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if !start.processors.is_empty() {
            sys::begin_on(&mut command, start.processors);
        }
        let child = command.spawn().map_err(|why| format!("{command:?}: {why}"))?;
        let server = Server::new(child, at);
        let mut crowd = Crowd::new(at)?;
        let serves = if self.is_dtls() {
            crowd.join(1, profile, &mut Progress::new()).and_then(|_| crowd.leave(0..1))
        } else {
            crowd.join_plain(1);
            let patience = Duration::from_millis(50);
            let talk = Talk { size: 8, burst: 1, at_once: 1, rate: f64::MAX, patience };
            let mut tries = (0..100).map(|_| crowd.talk(&[0], talk, Until::Messages(1)));
            let heard = |said: Result<crate::crowd::Said, String>| said.is_ok_and(|said| said.answered > 0);
            if tries.any(heard) { Ok(()) } else { Err("no echo".to_owned()) }
        };
        serves.map_err(|why| format!("{command:?} does not serve: {why}"))?;
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
    /// A process that listens there.
    pub fn new(child: Child, at: SocketAddr) -> Self {
        Server { child, at }
    }

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

/// Where `make` has put libraries and C examples.
pub fn library_directory() -> PathBuf {
    std::env::var_os("DV_LIBDIR").map_or_else(|| crate::common::root().join("build"), PathBuf::from)
}

fn compiler() -> Command {
    Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
}

fn compile(source: &Path, program: &Path, flags: &[&str]) -> Result<(), String> {
    let root = crate::common::root();
    let header = std::env::var_os("DV_INCLUDEDIR").map_or_else(|| root.join("include"), PathBuf::from);
    let library = library_directory();
    let mut cc = compiler();
    cc.args(["-std=gnu11", "-O2", "-I"]).arg(header).arg("-I").arg(root.join("tests/original"));
    cc.arg(source).arg("-o").arg(program).arg("-L").arg(&library);
    output(cc.arg(format!("-Wl,-rpath,{}", library.display())).args(flags)).map(drop)
}

/// What a command that has to succeed prints.
pub fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|why| format!("{command:?}: {why}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// Told 'a' it takes blocks of many sizes in every way, told 'f' it frees them; then it answers with what it was told.
    const PROGRAM: &str = r#"
        #include <malloc.h>
        #include <stdlib.h>
        #include <string.h>
        #include <unistd.h>

        #define SIZES 64
        static void *taken[SIZES][8];

        int main(void)
        {
            char told = 0;

            while (read(0, &told, 1) == 1) {
                for (int n = 0; n < SIZES; n++) {
                    size_t size = 16 * n + 8;
                    void **at = taken[n];

                    if (told == 'f') {
                        for (int way = 0; way < 8; way++) {
                            free(at[way]);
                        }
                        continue;
                    }
                    at[0] = malloc(size);
                    at[1] = calloc(n + 1, 16);
                    at[2] = realloc(malloc(size), 4 * size);
                    at[3] = realloc(NULL, size);
                    at[4] = aligned_alloc(64, 64 * (n + 1));
                    at[5] = memalign(64, size);
                    at[6] = posix_memalign(&at[6], 64, size) == 0 ? at[6] : NULL;
                    at[7] = realloc(malloc(size), 0);
                }
                if (write(1, &told, 1) != 1) {
                    return 1;
                }
            }
            return 0;
        }"#;

    /// For mallinfo what a thread keeps of them is still given out.
    #[test]
    fn what_was_freed_is_not_given_out() {
        let directory = std::env::temp_dir().join(format!("dv-heap-{}", std::process::id()));
        let watch = HeapWatch::new(&directory, "test").unwrap();
        let (source, program) = (directory.join("blocks.c"), directory.join("blocks"));
        fs::write(&source, PROGRAM).unwrap();
        compile(&source, &program, &["-w", "-fno-builtin"]).unwrap();
        let mut command = Command::new(program);
        let mut child = command.envs(watch.environment()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut tell = |word: u8| {
            stdin.write_all(&[word]).unwrap();
            stdout.read_exact(&mut [0]).unwrap();
        };
        // It is written now and then.
        let until = |wanted: &dyn Fn(Heap) -> bool| {
            let told = (0..40).map(|_| watch.now()).find(|now| now.as_ref().is_ok_and(|now| wanted(*now)));
            told.unwrap_or_else(|| panic!("it stays at {:?}", watch.now())).unwrap()
        };
        let before = until(&|_| true);
        for _ in 0..2 {
            tell(b'a');
            let taken = until(&|now| now.blocks == before.blocks + 7 * 64);
            assert!(taken.bytes > before.bytes + 64 * 7 * 512);
            tell(b'f');
            until(&|now| (now.blocks, now.bytes) == (before.blocks, before.bytes));
        }
        drop(stdin);
        assert!(child.wait().unwrap().success());
        fs::remove_dir_all(directory).unwrap();
    }
}
