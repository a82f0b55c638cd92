//! What an idle session of a server holds in memory. `cargo bench --bench memory [SESSIONS] [RECORDS]`
//!
//! Each client makes a handshake, says something, hears the answer and is gone without a goodbye. Counted is what all of
//! malloc has given out, to OpenSSL and to Rust, and what of the process is resident.

mod visit;

use dv_dtls::{Config, Endpoint};
use visit::{contexts, visit};

const SECOND: u64 = 1_000_000;

/// Bytes that malloc has given out and that were not freed, and bytes of the process that are resident.
fn memory() -> (usize, usize) {
    // SAFETY: plain calls.
    let given = unsafe {
        libc::malloc_trim(0);
        let info = libc::mallinfo2();
        info.uordblks + info.hblkhd
    };
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    (given, pages * 4096)
}

fn measure(name: &str, sessions: u32, set: fn(&mut Config)) {
    if !std::env::args()
        .skip(1)
        .filter(|it| !it.starts_with('-') && it.parse::<u32>().is_err())
        .all(|it| name.contains(&it))
    {
        return;
    }
    let (server_context, client_context) = contexts();
    let mut config = Config::default();
    set(&mut config);
    let mut server = Endpoint::new(server_context, config).unwrap();
    let mut now = SECOND;
    // What is made once for all.
    visit(&mut server, &client_context, 0, now);
    let before = memory();
    for number in 1..=sessions {
        visit(&mut server, &client_context, number, now);
        // A hundred new sessions a second: those before them are idle meanwhile.
        now += SECOND / 100;
        server.advance(now);
    }
    now += 5 * SECOND;
    while server.deadline() <= now {
        server.advance(now);
    }
    let idle = memory();
    assert_eq!(server.sessions().count(), sessions as usize + 1);
    let each = |after: usize, before: usize| after.saturating_sub(before) / sessions as usize;
    println!("{name:<40} heap {:>6} B a session, resident {:>6} B", each(idle.0, before.0), each(idle.1, before.1));
}

fn main() {
    let sessions = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(10_000);
    println!("{sessions} sessions of a server");
    measure("our records", sessions, |_| {});
    measure("OpenSSL's records, buffers given back", sessions, |config| config.settings.native_records = false);
    measure("OpenSSL's records", sessions, |config| {
        config.settings.native_records = false;
        config.settings.release_buffers = false;
    });
}
