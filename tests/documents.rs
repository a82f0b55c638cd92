//! What the documents for people say: their links lead somewhere, their C and Rust compiles, the README's programs run, and
//! nothing that an operator can set or read is missing.

mod common;

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::process::{Ended, PATIENCE, Process, free_port};
use common::{Link, certificates, compile, directory, link, link_archive, members, root, succeed};
use dv_dtls::{Config, Connect, Endpoint, Event};
use openssl::ssl::{SslContext, SslMethod};

/// The documents, each with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let markdown = |directory: &Path| {
        let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect::<Vec<_>>()
    };
    let mut paths = markdown(root());
    paths.extend(markdown(&root().join("docs")));
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).expect("text"))).collect()
}

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("\n```").next().expect("a block").to_owned() + "\n").collect()
}

/// The lines outside of fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// What a heading is called in a link.
fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let kept = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let anchor =
        |line: &str| line.trim_start_matches('#').trim().to_lowercase().replace(|c| !kept(c), "").replace(' ', "-");
    headings.map(anchor).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut checked = 0;
    for (path, text) in documents() {
        for link in
            prose(&text).flat_map(|line| line.split("](").skip(1)).map(|rest| rest.split(')').next().expect("a link"))
        {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().expect("a directory").join(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            if !anchor.is_empty() {
                let there = anchors(&fs::read_to_string(&target).expect("text"));
                assert!(there.iter().any(|known| known == anchor), "{}: {link}: there are {there:?}", path.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked} links");
}

#[test]
fn c_compiles() {
    let mut checked = 0;
    for (path, text) in documents() {
        // What stands there is compiled with the examples that it comes from.
        if path.ends_with("operations.md") {
            continue;
        }
        for (number, block) in blocks(&text, "c").into_iter().enumerate() {
            let stem = path.file_stem().expect("a name").to_string_lossy();
            let source = directory().join(format!("{stem}-{number}.c"));
            fs::write(&source, block).expect("written");
            compile(&source, &source.with_extension("o"), &["-Wextra", "-Wno-unused-function", "-Werror"]);
            checked += 1;
        }
    }
    assert!(checked > 4, "{checked} blocks");
}

#[test]
fn the_guide_omits_every_helper() {
    let header = fs::read_to_string(common::header().join("dv_dtls.h")).expect("text");
    let guide = fs::read_to_string(root().join("docs/migrating.md")).expect("text");
    let guards = header.lines().filter_map(|line| line.strip_prefix("#if !defined(")?.strip_suffix(')'));
    let omitted: Vec<&str> = guards.filter(|guard| guard.starts_with("DV_OMIT_")).collect();
    assert!(omitted.len() > 19, "{omitted:?}");
    let missing: Vec<_> = omitted.iter().filter(|guard| !guide.contains(&format!("#define {guard}"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn what_operators_are_shown_is_what_the_examples_run() {
    let manual = fs::read_to_string(root().join("docs/operations.md")).expect("text");
    let flat = |text: &str| text.lines().map(|line| line.trim_start().to_owned() + "\n").collect::<String>();
    for (language, example) in [("c", "c-examples/identity.h"), ("rust", "examples/support/mod.rs")] {
        let source = flat(&fs::read_to_string(root().join(example)).expect("text"));
        let shown = blocks(&manual, language);
        assert_eq!(shown.len(), 3, "revocation, keys by identity, key log");
        for block in shown {
            assert!(source.contains(&flat(&block)), "not in {example}:\n{block}");
        }
    }
}

#[test]
fn the_c_programs_of_the_readme_echo() {
    let readme = fs::read_to_string(root().join("README.md")).expect("text");
    let programs = blocks(&readme, "c");
    assert_eq!(programs.len(), 3, "one for each door");
    for (number, program) in programs.into_iter().enumerate() {
        for how in Link::BOTH {
            let port = free_port();
            let path = directory().join(format!("door-{number}-{}", how.name()));
            let (source, object) = (path.with_extension("c"), path.with_extension("o"));
            fs::write(&source, with_port(&program, port)).expect("written");
            compile(&source, &object, &[]);
            self::link(&object, &path, how);
            says_what_is_missing(Command::new(&path));
            echoes(Command::new(&path), port);
        }
    }
}

#[test]
fn programs_with_rust_in_them_echo() {
    let readme = fs::read_to_string(root().join("README.md")).expect("text");
    let programs = blocks(&readme, "rust");
    assert_eq!(programs.len(), 2, "the endpoint and the server");
    let guide = fs::read_to_string(root().join("docs/migrating.md")).expect("text");
    let [rust_part] = blocks(&guide, "rust").try_into().expect("one part of a program that is C as well");
    let c_part = blocks(&guide, "c").into_iter().find(|block| block.contains("in Rust")).expect("the rest of it");

    // A package of its own, as a program that uses the library is one.
    let package = directory().join("package");
    fs::create_dir_all(package.join("src/bin")).expect("a directory");
    let manifest = format!(
        "[package]\nname = \"readme\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[lib]\nname = \"part\"\n\
         crate-type = [\"staticlib\"]\n\n[dependencies]\nopenssl = \"0.10\"\ndv-dtls = {{ path = {:?}, default-features = false }}\n\n[workspace]\n",
        root()
    );
    fs::write(package.join("Cargo.toml"), manifest).expect("written");
    fs::copy(root().join("Cargo.lock"), package.join("Cargo.lock")).expect("copied");
    fs::write(package.join("src/lib.rs"), rust_part).expect("written");
    let ports: Vec<u16> = programs.iter().map(|_| free_port()).collect();
    for (number, (program, port)) in programs.iter().zip(&ports).enumerate() {
        fs::write(package.join(format!("src/bin/readme_{number}.rs")), with_port(program, *port)).expect("written");
    }
    // Not Cargo's own: the library built there for these programs would take the place of the one under test.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("documents");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    succeed(
        Command::new(cargo).args(["build", "--quiet", "--offline", "--target-dir"]).arg(&target).current_dir(&package),
    );
    for (number, port) in ports.into_iter().enumerate() {
        let program = target.join(format!("debug/readme_{number}"));
        says_what_is_missing(Command::new(&program));
        echoes(Command::new(&program), port);
    }

    let (port, path) = (free_port(), directory().join("c-and-rust"));
    let (source, object) = (path.with_extension("c"), path.with_extension("o"));
    fs::write(&source, with_port(&c_part, port)).expect("written");
    compile(&source, &object, &[]);
    link_archive(&object, &path, &target.join("debug/libpart.a"));
    echoes(Command::new(&path), port);
}

fn with_port(program: &str, port: u16) -> String {
    assert_eq!(program.matches("4433").count(), 1, "the port that is replaced");
    program.replace("4433", &port.to_string())
}

/// Where there is no certificate.
fn says_what_is_missing(mut server: Command) {
    let empty = directory().join("empty");
    fs::create_dir_all(&empty).expect("a directory");
    server.current_dir(empty);
    let Ended { status, output } = Process::start(server, Stdio::null()).wait();
    assert!(status.code() == Some(1) && output.contains("server.pem"), "{status}: {output}");
}

/// Starts a server beside a certificate and lets clients say something to it, with IPv4 and where it is there with IPv6.
fn echoes(mut server: Command, port: u16) {
    for extension in ["pem", "key"] {
        let from = certificates().join("server-ecdsa").with_extension(extension);
        fs::copy(from, directory().join("server").with_extension(extension)).expect("copied");
    }
    server.current_dir(directory());
    let mut server = Process::start(server, Stdio::null());
    answers(&mut server, (Ipv4Addr::LOCALHOST, port).into(), &UdpSocket::bind("127.0.0.1:0").expect("a socket"));
    if let Ok(socket) = UdpSocket::bind("[::1]:0") {
        answers(&mut server, (Ipv6Addr::LOCALHOST, port).into(), &socket);
    }
}

fn answers(server: &mut Process, to: SocketAddr, socket: &UdpSocket) {
    let mut context = SslContext::builder(SslMethod::dtls_client()).expect("a context");
    context.set_ca_file(certificates().join("ca.pem")).expect("the CA");
    let mut client =
        Endpoint::new(context.build(), Config { accept: false, ..Config::default() }).expect("an endpoint");
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
    let begin = Instant::now();
    let now = || begin.elapsed().as_micros() as u64;
    client.connect(0, &Connect::to_named(to, "localhost")).expect("begun");
    let (mut datagram, mut message) = ([0; 2048], Vec::new());
    loop {
        while let Some(transmit) = client.transmit(1) {
            // Nobody may listen yet: the hello is sent again.
            let _ = socket.send_to(transmit.bytes, transmit.to);
        }
        if let Ok((len, from)) = socket.recv_from(&mut datagram) {
            client.receive(now(), &datagram[..len], from, None);
        }
        client.advance(now());
        while let Some(event) = client.event(&mut message) {
            match event {
                Event::Opened { session } => client.send(session, b"is anybody there?").expect("sent"),
                Event::Message { .. } => {
                    assert_eq!(message, b"is anybody there?");
                    assert_eq!(server.ended(), None, "{}", server.output());
                    return;
                }
                Event::Moved { .. } => {}
                Event::Closed { reason, .. } => panic!("{reason:?}: {}", server.output()),
            }
        }
        assert!(begin.elapsed() < PATIENCE, "no answer: {}", server.output());
    }
}

#[test]
fn rust_programs_need_no_unsafe() {
    let text = |path: &str| fs::read_to_string(root().join(path)).expect("text");
    // The rooms that may not even contain any, and the files that the other public types are from.
    for room in ["engine", "wire"] {
        assert!(text(&format!("src/{room}/mod.rs")).contains("#![forbid(unsafe_code)]"), "{room}");
    }
    for file in ["net/server.rs", "net/handler.rs", "tls/resumption.rs"] {
        assert!(!text(&format!("src/{file}")).contains("unsafe fn"), "{file}");
    }
    let library = text("src/lib.rs");
    let public = library.lines().filter_map(|line| line.strip_prefix("pub use ")?.split("::").next());
    assert!(public.clone().count() > 5);
    for room in public {
        assert!(["engine", "net", "tls", "ffi", "guard"].contains(&room), "{room}");
    }
    assert!(library.contains("#[cfg(not(doc))]\npub use ffi::*;"), "what is for C is no part of it");
}

#[test]
fn what_an_operator_can_set_and_read_is_in_the_manual() {
    let manual = fs::read_to_string(root().join("docs/operations.md")).expect("text");
    let environment = fs::read_to_string(root().join("src/ffi/helpers/environment.rs")).expect("text");
    let variables = environment.split("c\"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned);
    let names: Vec<String> = variables.chain(members("dv_stats")).chain(members("dv_config")).collect();
    assert!(names.len() > 50, "{names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !manual.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The README's figures: its columns, each with the beginning of a table's title in docs/performance.md and a column there.
const FIGURES: [(&str, &str, &str); 6] = [
    ("a message of 64 B", "Server CPU per message there and back", "64 B, 64 clients"),
    ("in bursts of 8", "Server CPU per message there and back", "64 B, bursts of 8"),
    ("a full handshake", "Server CPU per handshake", "full"),
    ("a resumed one", "Server CPU per handshake", "resumed"),
    ("a first hello", "A flood of hellos", "µs per hello"),
    ("an idle connection, kB", "Resident memory", "1,000"),
];

/// The servers that the README names, as docs/performance.md calls them.
const SERVERS: [&str; 8] =
    ["server", "endpoint", "helpers", "original program", "OpenSSL", "GnuTLS", "Mbed TLS", "wolfSSL"];

fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

/// The median in a table of docs/performance.md.
fn measured(results: &str, table: &str, column: &str, server: &str) -> String {
    let table = results.split(&format!("\n{table}")).nth(1).unwrap_or_else(|| panic!("no table {table:?}"));
    let mut rows = table.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let columns = cells(rows.next().expect("a heading"));
    let place = columns.iter().position(|known| *known == column).unwrap_or_else(|| panic!("no column {column:?}"));
    let row = rows.map(cells).find(|row| row[0] == server).unwrap_or_else(|| panic!("no row {server:?}"));
    row[place].split(" ±").next().expect("a median").to_owned()
}

/// `DV_FIGURES=update cargo test --test documents figures` writes them when they were measured anew.
#[test]
fn the_figures_of_the_readme_are_those_that_were_measured() {
    let text = |path: &str| fs::read_to_string(root().join(path)).expect("text");
    let (readme, results) = (text("README.md"), text("docs/performance.md"));
    let between = |text: &str, mark: &str| {
        let begun = text.split(&format!("<!-- {mark} -->\n")).nth(1).expect("the mark").to_owned();
        begun.split(&format!("<!-- /{mark} -->")).next().expect("its end").to_owned()
    };
    let results = between(&results, "bench");
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut expected = format!("| {}", row(FIGURES.iter().map(|(column, ..)| (*column).to_owned()).collect()));
    expected += &format!("| --- |{}\n", " ---: |".repeat(FIGURES.len()));
    for server in SERVERS {
        let value = |(_, table, column): &(&str, &str, &str)| measured(&results, table, column, server);
        expected += &row(std::iter::once(server.to_owned()).chain(FIGURES.iter().map(value)).collect());
    }
    let shown = between(&readme, "figures");
    if std::env::var_os("DV_FIGURES").is_some_and(|how| how == "update") {
        fs::write(root().join("README.md"), readme.replace(&format!("-->\n{shown}<"), &format!("-->\n{expected}<")))
            .expect("written");
        return;
    }
    assert!(shown == expected, "README.md has\n{shown}\nbut docs/performance.md says\n{expected}");
}

/// Commands of the shell's blocks: scripts/follow-documents.sh runs them, this test sees that they are there at all.
#[test]
fn what_readers_are_told_to_run_is_there() {
    let makefile = fs::read_to_string(root().join("Makefile")).expect("text");
    let is_there = |word: &str| {
        let name = word.trim_start_matches("../");
        let source = name.strip_prefix("build/").map(|name| format!("c-examples/{name}.c"));
        let programs = source.iter().map(String::as_str).chain([name]);
        programs.map(|path| root().join(path)).any(|path| path.exists())
    };
    let mut checked = 0;
    for (path, text) in documents() {
        for line in blocks(&text, "sh").iter().flat_map(|block| block.lines()) {
            let words: Vec<&str> = line.split('#').next().expect("a line").split_whitespace().collect();
            let after = |name: &str| words.iter().skip_while(|word| **word != name).nth(1);
            let targets = words.iter().skip_while(|word| **word != "make").skip(1);
            for target in targets.filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-')) {
                assert!(makefile.contains(&format!("\n{target}:")), "{}: make {target}", path.display());
                checked += 1;
            }
            for program in words.iter().filter(|word| word.starts_with("build/") || word.starts_with("scripts/")) {
                assert!(is_there(program), "{}: {program}", path.display());
                checked += 1;
            }
            for (option, folder) in [("--bench", "benches"), ("--example", "examples")] {
                if let Some(name) = after(option) {
                    assert!(is_there(&format!("{folder}/{name}.rs")), "{}: {option} {name}", path.display());
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 20, "{checked} commands");
}

/// The files under folders of the tree.
fn files(folders: &[&str]) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() { folders.push(entry) } else { files.push(entry) }
        }
    }
    files
}

#[test]
fn files_that_are_named_are_there() {
    let files =
        files(&["benches", "c-examples", "docs", "examples", "fuzz/fuzz_targets", "scripts", "src", "tests", "tools"]);
    let mut checked = 0;
    for (path, text) in documents() {
        for name in prose(&text).flat_map(|line| line.split('`').skip(1).step_by(2)) {
            let is_ours = match Path::new(name).extension().and_then(|extension| extension.to_str()) {
                Some("rs") => true,
                Some("c" | "h" | "sh" | "pl") => name.contains('/'),
                _ => false,
            };
            if is_ours && !name.contains([' ', '*']) {
                let known = root().join(name).exists() || files.iter().any(|file| file.ends_with(name));
                assert!(known, "{}: {name}", path.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 60, "{checked} files");
}

/// The last column of the tables of threats and of CVEs names tests; a test that was renamed would be a promise without proof.
#[test]
fn tests_that_are_named_are_there() {
    let manual = fs::read_to_string(root().join("docs/security.md")).expect("text");
    let sources: String = files(&["tests", "src", "fuzz/fuzz_targets"])
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| fs::read_to_string(path).expect("text"))
        .collect();
    let threats =
        manual.split("## What stops whom").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("a table");
    let mut checked = 0;
    for row in threats.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")).skip(1).map(cells) {
        let named = row.last().expect("a column").split('`').skip(1).step_by(2);
        for name in named.filter(|name| !name.ends_with("::") && !name.contains("...")) {
            let last = name.rsplit("::").next().expect("a name");
            let known = match name.contains('/') {
                true => root().join(name).exists() || root().join("src").join(name).exists(),
                false => sources.contains(&format!("fn {last}")) || sources.contains(&format!("\"{last}")),
            };
            assert!(known, "docs/security.md names {name}");
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked} tests");
}
