//! Processes that are killed with SIGKILL in the middle: either nothing has changed hands, or everything has.

use std::fs::{self, File};
use std::io::{Read, stdin};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dv_dtls::{Error, Export, Exported, Imported};

use crate::clients::PATIENCE;
use crate::common::process::wait_until;
use crate::crowd::Crowd;
use crate::key;
use crate::server::{config, echo, open};

/// Where the process that exports finds what it needs.
const FOLDER: &str = "DV_TEST_EXPORTER";

/// A server in a process of its own, which is this test program once more. Killed when dropped.
struct Exporter {
    process: Child,
    folder: PathBuf,
}

impl Exporter {
    /// Starts one that does what `how` says; see [`exporter`].
    fn start(how: &str) -> Exporter {
        Exporter::start_with(how, Stdio::null())
    }

    /// The same, with something in the place of its input.
    fn start_with(how: &str, input: Stdio) -> Exporter {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("exporter-{how}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("how"), how).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "killed::exporter", "--ignored"]).env(FOLDER, &folder);
        let process = command.stdin(input).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Exporter { process, folder }
    }

    fn address(&self) -> SocketAddr {
        self.wait_for("address").parse().unwrap()
    }

    /// What stands in a file, once there is one.
    fn wait_for(&self, name: &str) -> String {
        let begin = Instant::now();
        loop {
            match fs::read_to_string(self.folder.join(name)) {
                Ok(text) if text.ends_with('\n') => return text.trim().into(),
                _ => assert!(begin.elapsed() < PATIENCE, "no {name}"),
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn tell(&self, name: &str) {
        fs::write(self.folder.join(name), "\n").unwrap();
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Not a test: what the other process does. It serves until it is told to export.
#[test]
#[ignore = "a part of other tests"]
fn exporter() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let how = fs::read_to_string(folder.join("how")).unwrap();
    let (server, _) = echo(config(2));
    let address = server.bind("127.0.0.1:0").unwrap();
    server.start().unwrap();
    fs::write(folder.join("address"), format!("{address}\n")).unwrap();
    let begin = Instant::now();
    while !folder.join("go").exists() {
        assert!(begin.elapsed() < 4 * PATIENCE);
        thread::sleep(Duration::from_millis(1));
    }
    let path = folder.join("export");
    match &*how {
        // What it has for its input is the writing end, and somebody reads a part of it.
        "to-a-pipe" => drop(server.export(&key(), &mut File::from(stdin().as_fd().try_clone_to_owned().unwrap()))),
        "whole" => {
            server.export(&key(), &mut File::create(&path).unwrap()).unwrap();
            fs::write(folder.join("done"), "\n").unwrap();
        }
        // What is taken back is destroyed first.
        _ => {
            while begin.elapsed() < 4 * PATIENCE {
                server.export(&key(), &mut File::create(&path).unwrap()).unwrap();
                thread::sleep(Duration::from_millis(1));
                fs::remove_file(&path).unwrap();
                server.cancel_export().unwrap();
            }
        }
    }
    thread::sleep(4 * PATIENCE);
}

/// Waits until a pipe has taken as much as it can, so that whoever writes more waits for its reader.
fn wait_until_full(pipe: &impl AsRawFd) {
    let waiting = || {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the descriptor is the pipe's, and the number is written to `bytes`.
        assert_eq!(unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &mut bytes) }, 0);
        bytes
    };
    wait_until(|| waiting() > 40_000, || format!("{} bytes wait", waiting()));
}

/// A server here goes on with what is in the export, and the clients with that.
fn goes_on(address: SocketAddr, export: Export, crowd: &Crowd) {
    let sessions = export.sessions();
    let (server, _) = echo(config(1));
    server.bind(address).unwrap();
    assert_eq!(server.import(export), Ok(Imported { sessions, skipped: 0 }));
    server.start().unwrap();
    crowd.all_are_answered();
    crowd.assert_undisturbed();
}

/// The one that takes over dies: the old one has noticed, and serves on.
#[test]
fn the_importing_process_while_it_reads() {
    const CLIENTS: usize = 400;
    let (server, _) = echo(config(2));
    let address = server.bind("127.0.0.1:0").unwrap();
    server.start().unwrap();
    let crowd = Crowd::of(CLIENTS, address);
    for part in [0, 1, 1000, 20_000] {
        // It reads a part and then nothing more; a pipe holds less than there is.
        let mut command = Command::new("sh");
        command.args(["-c", &format!("head -c {part} >/dev/null; exec sleep 60")]);
        let mut reader = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut to = reader.stdin.take().unwrap();
        let pipe = to.as_fd().try_clone_to_owned().unwrap();
        let killer = thread::spawn(move || {
            wait_until_full(&pipe);
            reader.kill().unwrap();
            reader.wait().unwrap();
        });
        assert!(matches!(server.export(&key(), &mut to), Err(Error::Io(why)) if why.contains("Broken pipe")));
        killer.join().unwrap();
        crowd.all_are_answered();
        crowd.assert_undisturbed();
    }
    crowd.assert_nothing_is_lost();
    assert_eq!(server.export(&key(), &mut std::io::sink()), Ok(Exported { sessions: CLIENTS, left: 0 }));
}

/// The old one dies while it writes: what it has written is no export.
#[test]
fn the_exporting_process_while_it_writes() {
    let (mut pipe, to) = std::io::pipe().unwrap();
    let mut exporter = Exporter::start_with("to-a-pipe", to.into());
    let crowd = Crowd::of(400, exporter.address());
    exporter.tell("go");
    let mut read = vec![0; 20_000];
    pipe.read_exact(&mut read).unwrap();
    // It is killed in the middle of a write, when the pipe is full again.
    wait_until_full(&pipe);
    exporter.kill();
    pipe.read_to_end(&mut read).unwrap();
    assert!(read.len() > 60_000 && read.len() < 400 * 221, "{} bytes", read.len());
    assert!(matches!(Export::read(&mut &read[..], &key()), Err(Error::Import(why)) if why.contains("cut short")));
    crowd.assert_undisturbed();
}

/// The old one dies before it can commit: everything is there already.
#[test]
fn the_exporting_process_when_it_has_written() {
    let mut exporter = Exporter::start("whole");
    let address = exporter.address();
    let crowd = Crowd::of(100, address);
    exporter.tell("go");
    exporter.wait_for("done");
    exporter.kill();
    goes_on(address, Export::take(open(&exporter.folder.join("export")), &key(), PATIENCE).unwrap(), &crowd);
}

/// At any moment, of an export that is made again and again; so often at least that there was one.
#[test]
fn the_exporting_process_at_any_moment() {
    let (mut whole, mut refused) = (0, 0);
    for round in 0.. {
        if round >= 12 && whole + refused > 0 {
            break;
        }
        assert!(round < 100, "it was never killed while there was an export");
        let mut exporter = Exporter::start("at-any-moment");
        let address = exporter.address();
        let crowd = Crowd::of(40, address);
        exporter.tell("go");
        let path = exporter.folder.join("export");
        wait_until(|| path.exists(), || "no export".into());
        // Some way into it, or into one of the next.
        thread::sleep(Duration::from_micros(731 * round));
        exporter.kill();
        if !path.exists() {
            continue;
        }
        match Export::take(open(&path), &key(), PATIENCE) {
            Ok(export) => {
                assert_eq!(export.sessions(), 40);
                goes_on(address, export, &crowd);
                whole += 1;
            }
            Err(Error::Import(why)) => {
                assert!(why.contains("cut short"), "{why}");
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    println!("{whole} exports were whole, {refused} were not");
}
