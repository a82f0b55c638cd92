//! How quickly sessions go to another process, and what they take up on the way. `cargo bench --bench export [SESSIONS]`
//!
//! Each session is a client's handshake with an ECDSA certificate, and a message and its answer. Told is wall-clock time and
//! the time that the thread had a processor: on a busy machine they differ.

mod visit;

use std::time::Instant;

use dv_dtls::{Config, Endpoint, Export, ExportKey};
use visit::{contexts, visit};

const ROUNDS: usize = 7;

/// Seconds for which this thread had a processor.
fn processor_time() -> f64 {
    // SAFETY: the time is filled by the call.
    unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        assert_eq!(libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time), 0);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    }
}

/// The best of some rounds: seconds on the wall and on the processor.
struct Best(f64, f64);

impl Best {
    fn measure<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (wall, processor) = (Instant::now(), processor_time());
        let result = work();
        *self = Best(self.0.min(wall.elapsed().as_secs_f64()), self.1.min(processor_time() - processor));
        result
    }

    fn print(&self, what: &str, sessions: usize) {
        let each = |seconds: f64| sessions as f64 / seconds;
        println!(
            "{what:<32} {:>10.0} sessions a second, {:>10.0} a second of processor time",
            each(self.0),
            each(self.1)
        );
    }
}

fn main() {
    let sessions = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(10_000);
    let (context, client_context) = contexts();
    let mut server = Endpoint::new(context.clone(), Config::default()).unwrap();
    for number in 0..sessions as u32 {
        visit(&mut server, &client_context, number, u64::from(number) * 100);
    }
    let key = ExportKey::new([7; ExportKey::LEN]);
    let never = || Best(f64::MAX, f64::MAX);
    let (mut export, mut read, mut import) = (never(), never(), never());
    let mut len = 0;
    for _ in 0..ROUNDS {
        let mut bytes = Vec::with_capacity(len);
        let exported = export.measure(|| server.export(&key, &mut bytes)).unwrap();
        assert_eq!((exported.sessions, exported.left), (sessions, 0));
        len = bytes.len();
        let whole = read.measure(|| Export::read(&mut &bytes[..], &key)).unwrap();
        let mut new = Endpoint::new(context.clone(), Config::default()).unwrap();
        let imported = import.measure(|| new.import(1, whole)).unwrap();
        assert_eq!(imported.sessions, sessions);
        server.commit_export().unwrap();
        server = new;
        while server.event(&mut Vec::new()).is_some() {}
    }
    println!("{sessions} sessions of a server, without a client's certificate: {} bytes each", len.div_ceil(sessions));
    export.print("exported", sessions);
    read.print("opened and checked", sessions);
    import.print("taken in", sessions);
    Best(read.0 + import.0, read.1 + import.1).print("imported, both together", sessions);
}
