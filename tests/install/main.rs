//! The library as `make install` leaves it, from the tools and languages that find it there.

#[path = "../common/mod.rs"]
mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};

use common::{certificates, root, scratch, succeed};

/// build/ is one for all tests, and what is made for one prefix differs from what is made for another.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner())
}

fn make(target: &str, places: &[String]) {
    // An outer make's flags are not for this one.
    succeed(Command::new("make").args(["--silent", target]).args(places).current_dir(root()).env_remove("MAKEFLAGS"));
}

/// The library, installed for one test, and a folder for what the test builds.
struct Installed {
    prefix: PathBuf,
    work: PathBuf,
}

impl Installed {
    fn new(test: &str) -> Installed {
        let installed = Installed { prefix: scratch(format!("{test}-prefix")), work: scratch(format!("{test}-work")) };
        let _turn = alone();
        make("install", &installed.places());
        installed
    }

    fn places(&self) -> Vec<String> {
        vec![format!("PREFIX={}", self.prefix.display())]
    }

    /// What a shell says, in the work folder, on a machine that finds the library at the prefix.
    fn sh(&self, command: &str) -> String {
        let output = succeed(
            Command::new("sh")
                .args(["-ec", command])
                .current_dir(&self.work)
                .env("CC", std::env::var("CC").unwrap_or_else(|_| "cc".into()))
                .env("PREFIX", &self.prefix)
                .env("CERTS", certificates())
                .env("TESTS", root().join("tests"))
                .env("PKG_CONFIG_PATH", self.prefix.join("lib/pkgconfig"))
                .env("LD_LIBRARY_PATH", self.prefix.join("lib")),
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn has(&self, tool: &str) -> bool {
        let found = Command::new("sh").args(["-c", tool]).output().is_ok_and(|output| output.status.success());
        if !found {
            println!("`{tool}` fails here: left out");
        }
        found
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let _turn = alone();
        make("uninstall", &self.places());
        assert_eq!(files(&self.prefix), Vec::<String>::new());
    }
}

/// Every file and link below `folder`, by its path from there.
fn files(folder: &Path) -> Vec<String> {
    let output = succeed(Command::new("find").current_dir(folder).args([".", "!", "-type", "d"]));
    let mut files: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(|l| l[1..].to_owned()).collect();
    files.sort();
    files
}

/// The functions of the header.
fn functions() -> Vec<String> {
    let output = succeed(Command::new("scripts/header-functions.sh").arg("include/dv_dtls.h").current_dir(root()));
    String::from_utf8(output.stdout).unwrap().lines().map(String::from).collect()
}

#[test]
fn install_and_uninstall_honour_destdir() {
    let stage = scratch("stage");
    let places = ["PREFIX=/opt/dv", "LIBDIR=/opt/dv/lib64", "INCLUDEDIR=/opt/dv/include/dv", "MANDIR=/opt/dv/man"];
    let mut places = places.map(String::from).to_vec();
    places.push(format!("DESTDIR={}", stage.display()));
    let _turn = alone();
    make("install", &places);
    let (manual, others): (Vec<String>, Vec<String>) =
        files(&stage).into_iter().partition(|file| file.starts_with("/opt/dv/man/man3/dv_"));
    assert_eq!(
        others,
        [
            "/opt/dv/include/dv/dv_dtls.h".to_owned(),
            "/opt/dv/lib64/cmake/dv_dtls/dv_dtls-config-version.cmake".to_owned(),
            "/opt/dv/lib64/cmake/dv_dtls/dv_dtls-config.cmake".to_owned(),
            "/opt/dv/lib64/libdv_dtls.a".to_owned(),
            "/opt/dv/lib64/libdv_dtls.so".to_owned(),
            "/opt/dv/lib64/libdv_dtls.so.0".to_owned(),
            format!("/opt/dv/lib64/libdv_dtls.so.{}", env!("CARGO_PKG_VERSION")),
            "/opt/dv/lib64/pkgconfig/dv_dtls.pc".to_owned(),
        ]
    );
    assert!(manual.len() > functions().len());
    for file in ["pkgconfig/dv_dtls.pc", "cmake/dv_dtls/dv_dtls-config.cmake"] {
        let text = fs::read_to_string(stage.join("opt/dv/lib64").join(file)).unwrap();
        assert!(!text.contains(stage.to_str().unwrap()), "the stage is in {file}:\n{text}");
        assert!(!text.contains('@'), "{file} has a place that was not filled:\n{text}");
    }
    let pc = fs::read_to_string(stage.join("opt/dv/lib64/pkgconfig/dv_dtls.pc")).unwrap();
    assert!(pc.contains("prefix=/opt/dv\n") && pc.contains("libdir=${prefix}/lib64\n"), "{pc}");
    make("uninstall", &places);
    assert_eq!(files(&stage), Vec::<String>::new());
}

/// What a C program needs is what its manual says: `cc main.c $(pkg-config ...)`.
#[test]
fn a_program_builds_with_pkg_config() {
    let installed = Installed::new("pkg-config");
    installed.sh("cp $TESTS/c/header_signatures.c main.c");
    installed.sh("$CC main.c -o shared $(pkg-config --cflags --libs dv_dtls libssl libcrypto) && ./shared");
    assert!(installed.sh("readelf -d shared").contains("[libdv_dtls.so.0]"));

    // As on a machine that has the static library only.
    installed.sh("rm $PREFIX/lib/libdv_dtls.so $PREFIX/lib/libdv_dtls.so.0");
    installed.sh("$CC main.c -o static $(pkg-config --static --cflags --libs dv_dtls libssl libcrypto) && ./static");
    assert!(!installed.sh("readelf -d static").contains("libdv_dtls"));
    assert_eq!(installed.sh("pkg-config --modversion dv_dtls").trim(), env!("CARGO_PKG_VERSION"));
}

/// The tree may be moved after it was installed: nothing in the CMake files names its place.
#[test]
fn a_program_builds_with_cmake() {
    let installed = Installed::new("cmake");
    if !installed.has("cmake --version") {
        return;
    }
    installed.sh("cp $TESTS/install/CMakeLists.txt . && cp $TESTS/c/header_signatures.c main.c && cp -a $PREFIX moved");
    installed.sh("cmake -S . -B build -DCMAKE_PREFIX_PATH=$PWD/moved && cmake --build build");
    assert!(
        installed
            .sh("LD_LIBRARY_PATH=$PWD/moved/lib ./build/shared && readelf -d build/shared")
            .contains("libdv_dtls.so.0")
    );
    assert!(!installed.sh("./build/static && readelf -d build/static").contains("libdv_dtls"));
    // A version that it cannot be taken for.
    installed.sh(
        "sed -i 's/dv_dtls 0.1/dv_dtls 0.2/' CMakeLists.txt && ! cmake -S . -B other -DCMAKE_PREFIX_PATH=$PWD/moved",
    );
}

#[test]
fn a_cxx_program_exchanges_a_message() {
    let installed = Installed::new("cxx");
    if !installed.has("g++ --version") {
        return;
    }
    installed.sh("g++ -std=c++11 -Wall -Wextra -pedantic -Werror $TESTS/install/memory.cc -o memory \
         $(pkg-config --cflags --libs dv_dtls libssl libcrypto)");
    assert_eq!(installed.sh("./memory $CERTS"), "hello from C++\n");
}

#[test]
fn a_python_program_exchanges_a_message() {
    let installed = Installed::new("python");
    // The distribution's Python has the distribution's cffi, whichever comes first on the path.
    if !installed.has("/usr/bin/python3 -c 'import cffi'") {
        return;
    }
    let said = installed
        .sh("/usr/bin/python3 $TESTS/install/memory.py $PREFIX/include/dv_dtls.h $PREFIX/lib/libdv_dtls.so $CERTS");
    assert_eq!(said, "hello from Python\n");
}

/// Each function is found by its name, in a page that says what it does, and that the formatter has nothing against.
#[test]
fn the_manual_has_every_function() {
    let installed = Installed::new("manual");
    let manual = installed.prefix.join("share/man/man3");
    let page =
        |name: &str| fs::read_to_string(manual.join(format!("{name}.3"))).unwrap_or_else(|e| panic!("{name}: {e}"));
    for function in functions() {
        let text = page(&function);
        let text = match text.strip_prefix(".so man3/") {
            Some(other) => page(other.trim().trim_end_matches(".3")),
            None => text,
        };
        assert!(text.contains(&format!(".SS {function}()\n")), "{function} is not described");
        assert!(text.lines().skip_while(|line| *line != ".SH NAME").nth(1).unwrap().contains(&function), "{function}");
    }
    for door in ["HELPERS", "ENDPOINT", "SERVER"] {
        assert!(page("dv_dtls").contains(&format!(".SH THE {door}\n")), "{door}");
    }
    if installed.has("groff --version") {
        installed.sh("cd $PREFIX/share/man && for page in man3/*; do groff -ww -man -z $page 2>&1; done | tee /dev/stderr | wc -c | grep -qx 0");
    }
}
