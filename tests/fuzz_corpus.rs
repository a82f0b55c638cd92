//! The inputs that the fuzz targets have kept, through the same functions.

use std::fs;
use std::path::Path;

#[path = "../fuzz/bodies/calls.rs"]
mod calls;
#[path = "../fuzz/bodies/common.rs"]
mod common;
#[path = "../fuzz/bodies/demux.rs"]
mod demux;
#[path = "../fuzz/bodies/endpoint.rs"]
mod endpoint;
#[path = "../fuzz/bodies/export.rs"]
mod export;
#[path = "../fuzz/bodies/hello.rs"]
mod hello;
#[path = "../fuzz/bodies/records.rs"]
mod records;
#[path = "../fuzz/bodies/sides.rs"]
mod sides;

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} is empty", corpus.display());
    for input in inputs {
        // Seen only when the input fails.
        println!("{}", input.display());
        run(&fs::read(&input).unwrap());
    }
}

#[test]
fn hellos() {
    replay("hello", hello::run);
}

#[test]
fn flights() {
    replay("demux", demux::run);
}

#[test]
fn endpoints() {
    replay("endpoint", endpoint::run);
}

#[test]
fn exports() {
    replay("export", export::run);
}

#[test]
fn records() {
    replay("records", records::run);
}

#[test]
fn calls() {
    replay("calls", calls::run);
}
