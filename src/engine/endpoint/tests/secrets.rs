//! That no key outlives what it was for, in all the memory of the process.

use std::fs::File;
use std::io::{BufRead, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::slice;
use std::sync::{MutexGuard, PoisonError};

use super::*;
use crate::engine::export::{Export, ExportKey};
use crate::tls::secret::FleetSecret;
use crate::wipe;

/// How often each of some secrets stands in the writable memory of this process. They are given inverted, so that they
/// are not found where they are looked for.
fn occurrences(inverted: &[Vec<u8>]) -> Vec<usize> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let memory = File::open("/proc/self/mem").unwrap();
    let mut found = vec![0; inverted.len()];
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw"))) {
        let (begin, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [begin, end] = [begin, end].map(|at| u64::from_str_radix(at, 16).unwrap());
        let mut bytes = vec![0; (end - begin) as usize];
        // But for what it is read into: a read over that would repeat what stands before it, again and again.
        let [from, to] = [bytes.as_ptr_range().start, bytes.as_ptr_range().end].map(|at| at as u64);
        for part in [begin..end.min(from), begin.max(to)..end].into_iter().filter(|part| !part.is_empty()) {
            let bytes = &mut bytes[..(part.end - part.start) as usize];
            let read = memory.read_at(bytes, part.start).unwrap_or(0);
            // Inverted too, in place, and wiped: it is itself memory that is read.
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
            for (secret, found) in inverted.iter().zip(&mut found) {
                let mut rest = &bytes[..read];
                while rest.skip_until(secret[0]).unwrap() > 0 {
                    *found += usize::from(rest.starts_with(&secret[1..]));
                }
            }
        }
        wipe::bytes(&mut bytes);
    }
    found
}

/// Two of these at once would find what the other one has copied to look at it.
static ALONE: Mutex<()> = Mutex::new(());

/// What looks at the memory of the whole process must do so alone.
fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All suites with tickets, and one without: that they are sealed is the same for all.
const WITH_TICKETS: [(&str, bool); 4] = [(SUITES[0], true), (SUITES[1], true), (SUITES[2], true), (SUITES[0], false)];

/// The context of a side. A server without tickets keeps its sessions in the context.
fn of(side: usize, suite: &str, tickets: bool) -> SslContext {
    context(suite, side == SERVER, |context| {
        if !tickets {
            context.set_options(SslOptions::NO_TICKET);
        }
    })
}

/// No copy of master secret, write key and read key is left. libssl writes a session out to seal it in a
/// ticket, and frees that without wiping it (`construct_stateless_ticket`, looked at up to 4.0.3). In 3.0 something of its
/// own comes to lie over it; in later versions that one copy may stay, known by being the DER of a session.
fn assert_nothing_is_left(inverted: &[Vec<u8>], tickets: bool, what: &str) {
    let octets_in_der = [!0x04, !48];
    let in_der = [&octets_in_der[..], &inverted[0]].concat();
    let [master, write, read, in_der] = occurrences(&[inverted, &[in_der]].concat())[..] else { unreachable!() };
    let excused = if tickets && openssl::version::number() >= 0x3020_0000 { in_der.min(1) } else { 0 };
    assert_eq!([master - excused, write, read], [0; 3], "{what}, tickets: {tickets}, in DER: {in_der}");
}

/// Neither in what was freed nor on the stack: master secret, keys of both directions.
#[test]
fn no_secret_outlives_its_connection() {
    let _alone = alone();
    let ids = [None, Some(ConnectionIds::default())];
    for ((suite, tickets), connection_ids) in
        WITH_TICKETS.into_iter().flat_map(|with| ids.clone().map(|ids| (with, ids)))
    {
        let what = format!("{suite}, {connection_ids:?}");
        let config = Config { connection_ids, ..Config::default() };
        let mut pair = Pair::of(of(CLIENT, suite, tickets), of(SERVER, suite, tickets), config).open(None);
        for from in [CLIENT, SERVER] {
            pair.send(from, b"hello").unwrap();
        }
        pair.carry();
        let inverted = pair.connection(SERVER).protection().inverted_secrets();
        assert!(occurrences(&inverted).iter().all(|count| *count > 0), "they are not found where they are");
        drop(pair);
        assert_nothing_is_left(&inverted, tickets, &what);
    }
}

/// Nor the key of an export, though it is moved.
#[test]
fn no_key_of_an_export_outlives_it() {
    let _alone = alone();
    let inverted = tls::random::<{ ExportKey::LEN }>().to_vec();
    let mut bytes = [0; ExportKey::LEN];
    bytes.iter_mut().zip(&inverted).for_each(|(byte, inverted)| *byte = !inverted);
    let moved = std::hint::black_box(ExportKey::new(bytes));
    wipe::bytes(&mut bytes);
    Pair::new(SUITES[0]).open(None).sides[SERVER].endpoint.export(&moved, &mut Vec::new()).unwrap();
    assert!(occurrences(slice::from_ref(&inverted))[0] > 0, "it is not found where it is");
    drop(moved);
    assert_eq!(occurrences(&[inverted]), [0]);
}

/// Nor what is read out of a file, of which nobody knows how long it is: a pipe.
#[test]
fn no_secret_outlives_the_pipe_that_it_came_from() {
    const TIMES: usize = 3000;
    let _alone = alone();
    let inverted = tls::random::<32>().to_vec();
    let (from, mut to) = std::io::pipe().unwrap();
    let writer = std::thread::spawn({
        let mut bytes = inverted.repeat(TIMES);
        move || {
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
            to.write_all(&bytes).unwrap();
            wipe::bytes(&mut bytes);
        }
    });
    // Memory has holes in which nothing can grow without leaving them.
    let (holes, _between): (Vec<_>, Vec<_>) = (4..17).map(|power| (vec![0u8; 1 << power], vec![0u8; 16])).unzip();
    drop(holes);
    let secret = FleetSecret::read(format!("/proc/self/fd/{}", from.as_raw_fd()).as_ref()).unwrap();
    writer.join().unwrap();
    assert_eq!(secret.for_cookies().len(), inverted.len() * TIMES);
    assert_eq!(occurrences(slice::from_ref(&inverted)), [TIMES], "there it is, and nowhere else");
    drop(secret);
    assert_eq!(occurrences(&[inverted]), [0]);
}

/// Nor in what an export leaves behind, in the process that writes it and in the one that reads it.
#[test]
fn no_secret_outlives_its_export() {
    let _alone = alone();
    for ((suite, tickets), side) in WITH_TICKETS.into_iter().flat_map(|with| [(with, SERVER), (with, CLIENT)]) {
        let mut pair = Pair::of(of(CLIENT, suite, tickets), of(SERVER, suite, tickets), Config::default()).open(None);
        pair.send(side, b"hello").unwrap();
        pair.carry();
        let inverted = pair.connection(SERVER).protection().inverted_secrets();
        let key = ExportKey::new([7; ExportKey::LEN]);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        pair.sides[side].endpoint.export(&key, &mut first).unwrap();
        let mut new = Endpoint::new(of(side, suite, tickets), Config::default()).unwrap();
        new.import(0, Export::read(&mut &first[..], &key).unwrap()).unwrap();
        drop(pair);
        assert!(occurrences(&inverted).iter().all(|count| *count > 0), "{suite}, {side}: the new endpoint has them");
        new.export(&key, &mut second).unwrap();
        drop(new);
        assert_nothing_is_left(&inverted, tickets, &format!("{suite}, {side}"));
    }
}
