//! What tests share: the built library, the compiler, the certificates, a place for files, other programs.
#![allow(dead_code)] // Each test binary uses a part of it.

pub mod clients;
pub mod contexts;
pub mod examples;
pub mod others;
pub mod pipe;
pub mod process;
pub mod tool;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The package's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// How a program takes the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    Shared,
    Static,
}

impl Link {
    pub const BOTH: [Link; 2] = [Link::Shared, Link::Static];

    pub fn name(self) -> &'static str {
        match self {
            Link::Shared => "shared",
            Link::Static => "static",
        }
    }

    /// The ways that there are: no shared library with an OpenSSL that is static.
    pub fn available() -> &'static [Link] {
        if library().join("libdv_dtls.so").exists() { &Link::BOTH } else { &[Link::Static] }
    }

    /// The shared one where there is one.
    pub fn preferred() -> Link {
        Link::available()[0]
    }
}

/// The directory with libdv_dtls.so and libdv_dtls.a: `DV_LIBDIR`, or else build/, brought up to date by `make`.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| match std::env::var_os("DV_LIBDIR") {
        Some(given) => PathBuf::from(given),
        None => {
            succeed(Command::new("make").args(["--silent", "lib"]).current_dir(root()));
            root().join("build")
        }
    })
}

/// The directory with the C examples, which is the library's. Two `make`s at once would each link the library that the other one
/// reads, so this one begins when that for the library is done, and there is one in a process.
pub fn examples() -> &'static Path {
    static EXAMPLES: OnceLock<&Path> = OnceLock::new();
    EXAMPLES.get_or_init(|| {
        let folder = library();
        if std::env::var_os("DV_LIBDIR").is_none() {
            succeed(Command::new("make").args(["--silent", "examples"]).current_dir(root()));
        }
        folder
    })
}

/// The directory with dv_dtls.h: `DV_INCLUDEDIR`, or else include/.
pub fn header() -> PathBuf {
    std::env::var_os("DV_INCLUDEDIR").map_or_else(|| root().join("include"), PathBuf::from)
}

/// The members of a struct of the header.
pub fn members(name: &str) -> Vec<String> {
    let header = std::fs::read_to_string(header().join("dv_dtls.h")).expect("the header");
    let text = header.split(&format!("typedef struct {name} {{")).nth(1).expect("the struct");
    let text = text.split(&format!("}} {name};")).next().expect("its end");
    let members = text.lines().filter_map(|line| line.trim().strip_suffix(';')?.rsplit([' ', '*']).next());
    members.map(|member| member.split('[').next().unwrap_or(member).to_owned()).collect()
}

/// The directory with the test certificates; the script does nothing when it has made them already.
pub fn certificates() -> &'static Path {
    static CERTIFICATES: OnceLock<PathBuf> = OnceLock::new();
    CERTIFICATES.get_or_init(|| {
        succeed(&mut Command::new(root().join("certs/make-certs.sh")));
        root().join("certs/out")
    })
}

/// One of them.
pub fn cert(name: &str) -> String {
    certificates().join(name).into_os_string().into_string().expect("a path in UTF-8")
}

/// Compiles one C file to an object.
pub fn compile(source: &Path, object: &Path, options: &[&str]) {
    let mut cc = compiler();
    cc.args(["-std=gnu11", "-O1", "-Wall", "-Werror=incompatible-pointer-types"]).args(options);
    cc.arg("-I").arg(header()).arg("-c").arg(source).arg("-o").arg(object);
    if let Some(openssl) = openssl() {
        cc.arg("-I").arg(openssl.join("include"));
    }
    succeed(&mut cc);
}

/// Links an object with the library and OpenSSL.
pub fn link(object: &Path, program: &Path, how: Link) {
    let mut cc = compiler();
    cc.arg(object).arg("-o").arg(program);
    if let Some(openssl) = openssl() {
        cc.arg("-L").arg(openssl.join("lib"));
    }
    match how {
        Link::Shared => {
            let mut rpath = std::ffi::OsString::from("-Wl,-rpath,");
            rpath.push(library());
            cc.arg("-L").arg(library()).arg("-ldv_dtls").arg(rpath).args(["-lssl", "-lcrypto"])
        }
        Link::Static => with_archive(&mut cc, &library().join("libdv_dtls.a")),
    };
    succeed(&mut cc);
}

/// Links an object with an archive that has the library in it, and OpenSSL.
pub fn link_archive(object: &Path, program: &Path, archive: &Path) {
    succeed(with_archive(compiler().arg(object).arg("-o").arg(program), archive));
}

fn with_archive<'a>(cc: &'a mut Command, archive: &Path) -> &'a mut Command {
    // `make` writes down what rustc says an archive needs beside it.
    let beside = library().join("native-libs");
    let beside = std::fs::read_to_string(&beside).unwrap_or_else(|e| panic!("{}: {e}", beside.display()));
    cc.arg(archive).args(["-lssl", "-lcrypto"]).args(beside.split_whitespace())
}

/// Links an object with OpenSSL alone.
pub fn link_without_library(object: &Path, program: &Path) {
    succeed(compiler().arg(object).arg("-o").arg(program).args(["-lssl", "-lcrypto"]));
}

/// The names beginning with `prefix` that an object uses and does not define.
pub fn undefined(object: &Path, prefix: &str) -> Vec<String> {
    let output = succeed(Command::new("nm").args(["--undefined-only", "--format=just-symbols"]).arg(object));
    let names = String::from_utf8(output.stdout).expect("symbols are text");
    names.lines().filter(|name| name.starts_with(prefix)).map(String::from).collect()
}

/// Where another OpenSSL than the system's is (scripts/test-openssl.sh).
fn openssl() -> Option<PathBuf> {
    std::env::var_os("OPENSSL_DIR").map(PathBuf::from)
}

fn compiler() -> Command {
    Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
}

/// Runs a command that has to succeed, and gives what it printed.
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A directory below Cargo's for this test binary's files; emptied at its start.
pub fn scratch(name: impl AsRef<OsStr>) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name.as_ref());
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    path
}

/// Where this test binary's sources, programs and logs are.
pub fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| scratch(env!("CARGO_CRATE_NAME")))
}
