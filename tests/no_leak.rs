//! Clients come and go in every way, and leave nothing at the server: of all blocks that Rust and OpenSSL have, there are as
//! many after each round as after the one before.

mod common;
#[path = "common/net.rs"]
mod net;

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use common::contexts::{client, server, settings};
use dv_dtls::{Config, Connect, Session};
use net::{Faults, SECOND, World};

/// For `net`.
const NATIVE_RECORDS: bool = true;
const CID_LEN: usize = 0;

/// Blocks that were taken and not given back. One that grows stays one.
static BLOCKS: AtomicI64 = AtomicI64::new(0);

fn count(block: *mut c_void, change: i64) -> *mut c_void {
    if !block.is_null() {
        BLOCKS.fetch_add(change, Ordering::Relaxed);
    }
    block
}

struct Counting;

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        count(unsafe { System.alloc(layout) }.cast(), 1).cast()
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(count(at.cast(), -1).cast(), layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Malloc = unsafe extern "C" fn(usize, *const c_char, c_int) -> *mut c_void;
type Realloc = unsafe extern "C" fn(*mut c_void, usize, *const c_char, c_int) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void, *const c_char, c_int);

unsafe extern "C" {
    fn CRYPTO_set_mem_functions(malloc: Malloc, realloc: Realloc, free: Free) -> c_int;
}

unsafe extern "C" fn malloc(size: usize, _: *const c_char, _: c_int) -> *mut c_void {
    // SAFETY: a plain call.
    if size == 0 { std::ptr::null_mut() } else { count(unsafe { libc::malloc(size) }, 1) }
}

unsafe extern "C" fn realloc(at: *mut c_void, size: usize, _: *const c_char, _: c_int) -> *mut c_void {
    // SAFETY: libcrypto asks for it as for C's realloc, with what `malloc` gave.
    unsafe {
        match (at.is_null(), size) {
            (true, _) => malloc(size, std::ptr::null(), 0),
            (false, 0) => {
                free(at, std::ptr::null(), 0);
                std::ptr::null_mut()
            }
            (false, _) => libc::realloc(at, size),
        }
    }
}

unsafe extern "C" fn free(at: *mut c_void, _: *const c_char, _: c_int) {
    // SAFETY: what `malloc` gave.
    unsafe { libc::free(count(at, -1)) }
}

const SERVER: usize = 0;

/// Whoever is silent for so long is gone.
const IDLE: u64 = 60;

/// A new client; its number.
fn come(world: &mut World) -> usize {
    world.add(client(), Config::default())
}

fn leave(world: &mut World, client: usize, session: Session) {
    let _ = world.nodes[client].endpoint.close(session);
    world.settle();
}

fn resume(world: &mut World) {
    let (client, to) = (come(world), world.nodes[SERVER].address);
    let (first, _) = world.open(client, SERVER);
    let ticket = world.nodes[client].endpoint.info(first).unwrap().resumption();
    leave(world, client, first);
    let now = world.now;
    let connect = Connect { resume: ticket.as_ref(), ..Connect::to_named(to, "localhost") };
    let again = world.nodes[client].endpoint.connect(now, &connect).unwrap();
    assert!(world.run(SECOND, |world| world.nodes[client].opened().contains(&again)));
    assert!(world.nodes[client].endpoint.info(again).unwrap().is_resumed());
    leave(world, client, again);
}

/// Comes again from its port, and again before that handshake is over.
fn restart(world: &mut World) {
    let first = come(world);
    world.open(first, SERVER);
    let address = world.nodes[first].address;
    let begun_anew = |world: &mut World, before: usize| {
        world.nodes[before].address.set_port(1);
        // What was for the one before is not to reach his successor.
        world.settle();
        world.add_at(address, client(), Config::default())
    };
    let second = begun_anew(world, first);
    world.connect(second, SERVER);
    world.run(SECOND, |world| world.nodes[SERVER].endpoint.handshakes() == 1);
    let third = begun_anew(world, second);
    let (session, _) = world.open(third, SERVER);
    leave(world, third, session);
}

/// Begins, and is not heard of again.
fn give_up(world: &mut World) {
    let client = come(world);
    world.connect(client, SERVER);
    assert!(world.run(SECOND, |world| world.nodes[SERVER].endpoint.handshakes() > 0));
    world.nodes[client].address.set_port(1);
}

/// What it sends comes a second time with an error in it, each datagram at another place.
fn damage(world: &mut World) {
    let client = come(world);
    let address = world.nodes[client].address;
    let before = world.sent.len();
    let (session, _) = world.open(client, SERVER);
    world.send(client, session, b"hello");
    world.settle();
    for n in before..world.sent.len() {
        let (from, _, mut datagram) = world.sent[n].clone();
        if from == address {
            let at = n * 7 % datagram.len();
            datagram[at] ^= 1;
            world.inject(address, SERVER, &datagram);
        }
    }
    world.settle();
}

/// Some have a bad network; half of them say goodbye.
fn lose(world: &mut World) {
    world.faults = Faults { loss: 20, duplicate: 10, reorder: 10 };
    let begun = |_| {
        let client = come(world);
        (client, world.connect(client, SERVER))
    };
    let clients: Vec<(usize, Session)> = (0..8).map(begun).collect();
    world.run(20 * SECOND, |_| false);
    for (client, session) in clients.into_iter().step_by(2) {
        let _ = world.nodes[client].endpoint.send(session, b"hello");
        leave(world, client, session);
    }
    world.faults = Faults::default();
}

fn round(world: &mut World) {
    let client = come(world);
    let (session, _) = world.open(client, SERVER);
    world.send(client, session, b"hello");
    world.settle();
    leave(world, client, session);
    // One who vanishes.
    let client = come(world);
    world.open(client, SERVER);
    resume(world);
    restart(world);
    give_up(world);
    damage(world);
    lose(world);

    world.nodes.truncate(1);
    world.pass_time(3 * IDLE * SECOND);
    let server = &mut world.nodes[SERVER];
    assert_eq!((server.endpoint.sessions().count(), server.endpoint.handshakes()), (0, 0));
    server.events.clear();
    server.failures.clear();
    world.sent.clear();
}

#[test]
fn nobody_leaves_anything_behind() {
    // SAFETY: the functions are those that libcrypto asks for, and it has taken nothing yet.
    assert_eq!(unsafe { CRYPTO_set_mem_functions(malloc, realloc, free) }, 1);
    let mut world = World::new(1);
    let times = settings(|settings| {
        settings.idle_timeout = Duration::from_secs(IDLE);
        settings.handshake_timeout = Duration::from_secs(IDLE);
    });
    world.add(server(), times);
    let mut blocks_after = |rounds| {
        (0..rounds).for_each(|_| round(&mut world));
        BLOCKS.load(Ordering::Relaxed)
    };
    // What is only made when it is first needed is there after the first ones.
    let before = blocks_after(3);
    assert_eq!(blocks_after(10), before);
}
