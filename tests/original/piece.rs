//! Single pieces of the document against the library's: the hash of a key, the layout of the types.

use std::hash::{BuildHasher, RandomState};
use std::mem::size_of;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::common::{self, Link, directory};
use crate::document::{Document, item};

const KEYS: usize = 10_000;
const KEY_SIZE: usize = size_of::<dv_dtls::dv_udp_conn_key_t>();

/// The library's `dv_dtls_conn_hash` gives the original's value for random keys.
pub fn hash_is_the_originals(document: &Document) {
    cut(document, "original_hash.h", &["DTLS_UDP_CONN_HASHTB_SIZE", "dv_dtls_conn_hash"]);
    let keys = random_keys();
    let original = hashes("original_hash", &["-DORIGINAL"], &keys);
    let library = hashes("library_hash", &[], &keys);
    assert_eq!((original.len(), library.len()), (KEYS, KEYS));
    for (n, key) in keys.chunks(KEY_SIZE).enumerate() {
        assert_eq!(library[n], original[n], "key {key:02x?}");
    }
}

/// The header's types have the original's layout, with the header's list and with the program's own.
pub fn layout_is_the_originals(document: &Document) {
    cut(document, "original_types.h", &["dv_udp_conn_key_t", "dv_udp_conn_t"]);
    compile("layout", "layout", &[]);
    compile("layout", "layout_own_list", &["-DOWN_LIST"]);
}

/// Writes items of the server's listing to a header.
fn cut(document: &Document, header: &str, names: &[&str]) {
    let text: String = names.iter().map(|name| item(&document.server, name).text.clone() + "\n").collect();
    std::fs::write(directory().join(header), text).unwrap_or_else(|e| panic!("{header}: {e}"));
}

/// Compiles a C file that stands beside this one.
fn compile(source: &str, object: &str, options: &[&str]) -> PathBuf {
    let source = common::root().join("tests/original").join(source).with_extension("c");
    let object = directory().join(object).with_extension("o");
    let cuttings = format!("-I{}", directory().display());
    common::compile(&source, &object, &[&[cuttings.as_str()], options].concat());
    object
}

/// Keys of every kind: IPv4 and IPv6 addresses as the mains make them, and any bytes at all.
fn random_keys() -> Vec<u8> {
    let random = RandomState::new();
    let mut keys = Vec::with_capacity(KEYS * KEY_SIZE);
    for n in 0..KEYS {
        let mut key: Vec<u8> = (0..4).flat_map(|part| random.hash_one((n, part)).to_ne_bytes()).collect();
        key.truncate(KEY_SIZE);
        match n % 3 {
            0 => {
                key[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                key[8..].fill(0);
            }
            1 => {
                key[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                key[4..8].fill(0);
                key[24..].fill(0);
            }
            _ => {}
        }
        keys.extend(key);
    }
    keys
}

/// Has a C program hash the keys.
fn hashes(name: &str, options: &[&str], keys: &[u8]) -> Vec<String> {
    let object = compile("hash", name, options);
    let program = object.with_extension("shared");
    common::link(&object, &program, Link::Shared);
    let input = object.with_extension("keys");
    std::fs::write(&input, keys).expect("written");
    let mut command = Command::new(program);
    let output = common::succeed(command.stdin(Stdio::from(std::fs::File::open(input).expect("just written"))));
    String::from_utf8(output.stdout).expect("text").lines().map(String::from).collect()
}
