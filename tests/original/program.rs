//! C programs put together from the listings: which helpers are the program's own and which come from the library.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use crate::common::{self, Link, directory};
use crate::document::{Document, Item, Kind, item};

pub const CLIENT_MAIN: &str = "dv_ssl_client_main";
pub const SERVER_MAIN: &str = "dv_ssl_server_main";

const TABLE: &[&str] = &["dv_dtls_conn_table_init", "dv_dtls_conn_add", "dv_dtls_conn_del", "dv_dtls_conn_find"];
const COOKIES: &[&str] = &["dv_dtls_generate_cookie_callback", "dv_dtls_verify_cookie_callback"];
const CONN_NEW: &str = "dv_dtls_conn_new";

/// The helper family, in the units in which a program can keep or take it: the table is one unit, the cookies are another.
pub const UNITS: [(&str, &[&str]); 15] = [
    ("openssl_ctx_set_ciphers", &["dv_openssl_ctx_set_ciphers"]),
    ("openssl_callback", &["dv_openssl_callback"]),
    ("openssl_set_verify", &["dv_openssl_set_verify"]),
    ("openssl_get_verify_result", &["dv_openssl_get_verify_result"]),
    ("ssl_certificate", &["dv_ssl_certificate"]),
    ("add_epoll_event", &["dv_add_epoll_event"]),
    ("dtls_conn_hash", &["dv_dtls_conn_hash"]),
    ("dtls_conn_table", TABLE),
    ("dtls_msg_send", &["dv_dtls_msg_send"]),
    ("dtls_conn_new", &[CONN_NEW]),
    ("dtls_conn_free", &["dv_dtls_conn_free"]),
    ("dtls_read", &["dv_dtls_read"]),
    ("dtls_write", &["dv_dtls_write"]),
    ("dtls_shutdown", &["dv_dtls_shutdown"]),
    ("dtls_cookies", COOKIES),
];

/// All helpers.
pub fn helpers() -> impl Iterator<Item = &'static str> {
    UNITS.iter().flat_map(|(_, functions)| functions.iter().copied())
}

/// Which units a program takes from the library, one bit each. The others are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taken(u16);

impl Taken {
    pub const NONE: Taken = Taken(0);
    pub const ALL: Taken = Taken((1 << UNITS.len()) - 1);

    /// This unit alone; the library's `conn_new` needs the library's table beside it.
    pub fn only(unit: usize) -> Taken {
        Taken::NONE.and(unit)
    }

    /// All but this unit; who keeps his table keeps his `conn_new`.
    pub fn all_but(unit: usize) -> Taken {
        let conn_new = if UNITS[unit].1 == TABLE { 1 << unit_of(CONN_NEW) } else { 0 };
        Taken(Taken::ALL.0 & !(1 << unit) & !conn_new)
    }

    /// One unit more.
    pub fn and(self, unit: usize) -> Taken {
        let table = if UNITS[unit].1 == [CONN_NEW] { 1 << unit_of(TABLE[0]) } else { 0 };
        Taken(self.0 | 1 << unit | table)
    }

    /// Whether the library's `helper` is used.
    pub fn contains(self, helper: &str) -> bool {
        self.0 & 1 << unit_of(helper) != 0
    }
}

fn unit_of(helper: &str) -> usize {
    UNITS.iter().position(|(_, functions)| functions.contains(&helper)).unwrap_or_else(|| panic!("{helper}?"))
}

/// A program: whose helpers, which of the two mains, linked how.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Program {
    pub taken: Taken,
    pub mains: Vec<&'static str>,
    pub link: Link,
}

impl Program {
    pub fn client(taken: Taken, link: Link) -> Program {
        Program { taken, mains: vec![CLIENT_MAIN], link }
    }

    pub fn server(taken: Taken, link: Link) -> Program {
        Program { taken, mains: vec![SERVER_MAIN], link }
    }

    /// Client and server in one file.
    pub fn both(taken: Taken, link: Link) -> Program {
        Program { taken, mains: vec![CLIENT_MAIN, SERVER_MAIN], link }
    }

    /// The C source.
    pub fn source(&self, document: &Document) -> String {
        let mut c = String::new();
        if self.taken == Taken::NONE {
            c += "#define PROGRAM_IS_ORIGINAL\n";
        }
        c += "#include \"prelude.h\"\n";
        if self.taken == Taken::ALL {
            c += "#include <dv_dtls.h>\n";
        }
        for item in self.items(document) {
            if item.name == "\"list.h\"" && self.taken != Taken::NONE {
                let _ = writeln!(c, "{}\n{}", item.text, self.include_beside_own());
            } else {
                let _ = writeln!(c, "{}\n", item.text);
            }
        }
        for (main, name) in [(CLIENT_MAIN, "PROGRAM_IS_CLIENT"), (SERVER_MAIN, "PROGRAM_IS_SERVER")] {
            if self.mains.contains(&main) {
                let _ = writeln!(c, "#define {name}");
            }
        }
        if !self.taken.contains(TABLE[0]) {
            c += "#define PROGRAM_OWNS_TABLE\n";
        }
        c + "#include \"main.h\"\n"
    }

    /// The items of the listings that belong to this program, in their order.
    fn items<'a>(&self, document: &'a Document) -> Vec<&'a Item> {
        let mut items: Vec<&Item> = Vec::new();
        let client_main = item(&document.client, CLIENT_MAIN);
        if self.taken == Taken::NONE && self.mains == [CLIENT_MAIN] {
            items.extend(&document.client);
            // The listing of the client calls it, that of the server defines it.
            items.insert(items.len() - 1, item(&document.server, "dv_openssl_get_verify_result"));
            return items;
        }
        for item in &document.server {
            if item.name == SERVER_MAIN {
                items.extend(self.mains.contains(&CLIENT_MAIN).then_some(client_main));
                items.extend(self.mains.contains(&SERVER_MAIN).then_some(item));
            } else if match item.kind {
                Kind::Function => !self.taken.contains(&item.name),
                Kind::Type => self.taken == Taken::NONE,
                Kind::Directive | Kind::Object => self.taken != Taken::ALL,
            } {
                items.push(item);
            }
        }
        items
    }

    /// The library's header in a program that keeps helpers of its own, and its own list in the connections.
    fn include_beside_own(&self) -> String {
        let mut c = String::from("#define DV_LIST_NODE struct list_head\n");
        for helper in helpers().filter(|helper| !self.taken.contains(helper)) {
            let _ = writeln!(c, "#define DV_OMIT_{}", helper.trim_start_matches("dv_").to_uppercase());
        }
        c + "#include <dv_dtls.h>\n"
    }

    /// Builds the program, once.
    pub fn build(&self, document: &Document) -> PathBuf {
        static BUILT: Mutex<BTreeMap<PathBuf, Arc<OnceLock<()>>>> = Mutex::new(BTreeMap::new());
        let once =
            |path: &Path| BUILT.lock().unwrap_or_else(|e| e.into_inner()).entry(path.into()).or_default().clone();

        let object = directory().join(format!("{}.o", self.name()));
        once(&object).get_or_init(|| {
            let source = object.with_extension("c");
            std::fs::write(&source, self.source(document)).unwrap_or_else(|e| panic!("{}: {e}", source.display()));
            let own_headers = format!("-I{}", common::root().join("tests/original").display());
            common::compile(&source, &object, &[&own_headers]);
        });
        let program = object.with_extension(self.link.name());
        once(&program).get_or_init(|| match self.taken {
            Taken::NONE => common::link_without_library(&object, &program),
            _ => common::link(&object, &program, self.link),
        });
        program
    }

    /// The name of its source.
    fn name(&self) -> String {
        let mains = match self.mains[..] {
            [CLIENT_MAIN] => "client",
            [SERVER_MAIN] => "server",
            _ => "both",
        };
        format!("{mains}_{:04x}", self.taken.0)
    }
}
