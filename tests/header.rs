//! include/dv_dtls.h as C and C++ compilers see it, and the library as `make install` leaves it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

/// The functions that a C file may keep to itself.
const HELPERS: [&str; 19] = [
    "dv_openssl_ctx_set_ciphers",
    "dv_openssl_callback",
    "dv_openssl_set_verify",
    "dv_openssl_get_verify_result",
    "dv_ssl_certificate",
    "dv_add_epoll_event",
    "dv_dtls_conn_table_init",
    "dv_dtls_conn_hash",
    "dv_dtls_conn_add",
    "dv_dtls_conn_del",
    "dv_dtls_conn_find",
    "dv_dtls_msg_send",
    "dv_dtls_conn_new",
    "dv_dtls_conn_free",
    "dv_dtls_read",
    "dv_dtls_write",
    "dv_dtls_shutdown",
    "dv_dtls_generate_cookie_callback",
    "dv_dtls_verify_cookie_callback",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// An empty folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("header").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn installed(compiler: &str) -> bool {
    let found = Command::new(compiler).arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        println!("{compiler} is not installed: left out");
    }
    found
}

fn cc() -> String {
    std::env::var("CC").unwrap_or_else(|_| "cc".into())
}

fn warnings_are_errors(compiler: &str, options: &[&str], source: &Path) -> Output {
    Command::new(compiler)
        .args(["-Wall", "-Wextra", "-pedantic", "-Werror"])
        .args(options)
        .arg("-I")
        .arg(root().join("include"))
        .arg("-c")
        .arg(source)
        .arg("-o")
        .arg(source.with_extension("o"))
        .output()
        .unwrap_or_else(|e| panic!("{compiler}: {e}"))
}

#[track_caller]
fn succeeded(what: &str, output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}\n{}{said}", output.status, String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

/// Compiles one text; what is wrong with it, or nothing.
#[track_caller]
fn compiles(folder: &Path, name: &str, text: &str) -> Result<(), String> {
    let source = folder.join(name);
    fs::write(&source, text).unwrap();
    let output = warnings_are_errors(&cc(), &["-std=gnu11"], &source);
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn compiles_alone_in_every_standard() {
    let folder = folder("standards");
    let mut tried = 0;
    for (extension, compilers, standards) in [
        ("c", ["gcc", "clang"], &["c89", "gnu89", "c99", "c11", "c17", "c2x"][..]),
        ("cc", ["g++", "clang++"], &["c++98", "c++03", "c++11", "c++14", "c++17", "c++20", "c++2b"][..]),
    ] {
        let alone = folder.join("alone").with_extension(extension);
        fs::write(&alone, "#include <dv_dtls.h>\n").unwrap();
        let twice = folder.join("twice").with_extension(extension);
        fs::write(&twice, "#include <dv_dtls.h>\n#include <dv_dtls.h>\nint dv_user(void);\n").unwrap();
        for compiler in compilers.into_iter().filter(|c| installed(c)) {
            for standard in standards {
                for source in [&alone, &twice] {
                    let output = warnings_are_errors(compiler, &[&format!("-std={standard}")], source);
                    succeeded(&format!("{compiler} -std={standard} {}", source.display()), output);
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 0, "no compiler");
}

/// What docs/header-style.md says about names, as far as a program can see to it.
#[test]
fn what_is_alike_is_called_alike() {
    let header = fs::read_to_string(root().join("include/dv_dtls.h")).unwrap();
    let code = header.split(';').map(|part| part.rsplit("*/").next().unwrap_or(part));
    let code: Vec<String> = code.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let mut found = [0; 2];
    for line in &code {
        if let Some((_, callback)) = line.split_once("typedef void (*") {
            assert!(callback.contains("callback)(") && callback.ends_with("void *user)"), "{line}");
            found[0] += 1;
        }
        // A struct that grows is filled as far as the program knows it.
        let filled = ["dv_stats *stats", "dv_config *config"].iter().any(|what| line.contains(what));
        if filled && !line.contains("const dv_config") {
            assert!(line.ends_with(", size_t size)"), "{line}");
            found[1] += 1;
        }
        let names = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        for name in names.filter(|name| name.starts_with("dv_") && name.contains("_get_")) {
            assert!(HELPERS.contains(&name), "{name}: a getter is the noun alone");
        }
    }
    assert_eq!(found, [2, 5], "callbacks, and functions that fill a struct");
}

#[test]
fn two_units_and_a_cxx_program_link() {
    let folder = folder("units");
    fs::write(folder.join("one.c"), "#include <dv_dtls.h>\nint one(void) { return DV_OK; }\n").unwrap();
    let main = "#include <dv_dtls.h>\nextern \"C\" int one(void);\n\
                int main() { return one() == DV_OK && dv_version() != 0 ? 0 : 1; }\n";
    fs::write(folder.join("main.cc"), main).unwrap();
    fs::write(folder.join("main.c"), main.replace(" \"C\"", "").replace("main()", "main(void)")).unwrap();
    library();
    for (compiler, file) in [(cc(), "main.c"), ("g++".to_owned(), "main.cc")] {
        if !installed(&compiler) {
            continue;
        }
        succeeded("one.c", warnings_are_errors(&cc(), &[], &folder.join("one.c")));
        succeeded(file, warnings_are_errors(&compiler, &[], &folder.join(file)));
        let program = folder.join("program");
        let link = Command::new(&compiler)
            .current_dir(&folder)
            .args(["main.o", "one.o", "-o", "program", "-ldv_dtls", "-lssl", "-lcrypto"])
            .arg("-L")
            .arg(library())
            .arg(format!("-Wl,-rpath,{}", library().display()))
            .output();
        succeeded(file, link.unwrap());
        succeeded(file, Command::new(program).output().unwrap());
    }
}

/// With its guard, a file's own static function of another type stands beside the declarations of all others; without, not.
#[test]
fn each_helper_can_be_kept() {
    let folder = folder("guards");
    for own in HELPERS {
        let others: String =
            HELPERS.iter().filter(|h| **h != own).map(|h| format!("    use((void (*)(void)){h});\n")).collect();
        let file = format!(
            "#include <dv_dtls.h>\n\
             void use(void (*f)(void));\nvoid user(void);\n\
             static double {own}(double a, double b) {{ return a + b; }}\n\
             void user(void)\n{{\n    if ({own}(1, 2) > 3) return;\n{others}}}\n"
        );
        let guard = format!("#define DV_OMIT_{}\n", own["dv_".len()..].to_uppercase());
        let name = format!("{own}.c");
        compiles(&folder, &name, &(guard + &file)).unwrap_or_else(|e| panic!("{own}: {e}"));
        assert!(compiles(&folder, &name, &file).is_err(), "{own}: compiles without its guard: not declared at all?");
    }
}

#[test]
fn a_program_may_bring_its_own_names() {
    let folder = folder("names");
    let list = "struct list_head { struct list_head *next, *prev; };\n#define DV_LIST_NODE struct list_head\n\
                #include <dv_dtls.h>\nstruct list_head *link_of(dv_udp_conn_t *conn);\n\
                struct list_head *link_of(dv_udp_conn_t *conn) { return conn->list.next; }\n";
    compiles(&folder, "list.c", list).unwrap();
    let constants = "#define DV_OK 0\n#define DV_ERROR -1\n#define DTLS_RECORD_MAX_LEN 70000\n#include <dv_dtls.h>\n\
                     char buffer[DTLS_RECORD_MAX_LEN == 70000 ? 1 : -1];\n";
    compiles(&folder, "constants.c", constants).unwrap();
    let types = "#define DV_OMIT_TYPES\ntypedef struct mine_key dv_udp_conn_key_t;\ntypedef struct mine dv_udp_conn_t;\n\
                 #include <dv_dtls.h>\nint dv_user(void);\n";
    compiles(&folder, "types.c", types).unwrap();
    // The very words of older programs, after the include: the same definition again is no error.
    let again = "#include <dv_dtls.h>\n#define DTLS_RECORD_MAX_LEN     (65535 - 8)\nint dv_user(void);\n";
    compiles(&folder, "again.c", again).unwrap();
}

/// The folder with the libraries that `make` built.
fn library() -> PathBuf {
    make(&["--silent", "lib"]);
    std::env::var_os("DV_LIBDIR").map_or_else(|| root().join("build"), PathBuf::from)
}

#[track_caller]
fn make(arguments: &[&str]) {
    // build/ is one for all tests. An outer make's flags are not for this one.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let output = Command::new("make").args(arguments).current_dir(root()).env_remove("MAKEFLAGS").output().unwrap();
    succeeded(&format!("make {arguments:?}"), output);
}

/// A program may have a helper of its own, not even static, beside the archive: its symbols are weak.
#[test]
fn an_own_global_helper_wins_over_the_archive() {
    let folder = folder("weak");
    let text = "#include <dv_dtls.h>\n\
                unsigned int dv_dtls_conn_hash(dv_udp_conn_key_t *key) { (void)key; return 42; }\n\
                int main(void)\n{\n    dv_udp_conn_key_t key;\n\
                return dv_dtls_conn_hash(&key) == 42 && dv_version() != NULL ? 0 : 1;\n}\n";
    compiles(&folder, "main.c", text).unwrap();
    let natives = {
        let built = library();
        fs::read_to_string(built.join("native-libs")).unwrap()
    };
    let link = Command::new(cc())
        .current_dir(&folder)
        .args(["main.o", "-o", "program"])
        .arg(library().join("libdv_dtls.a"))
        .args(["-lssl", "-lcrypto"])
        .args(natives.split_whitespace())
        .output();
    succeeded("link", link.unwrap());
    succeeded("run", Command::new(folder.join("program")).output().unwrap());
}
