//! Kernels that cannot do all, or not now: seccomp refuses a thread, and those that it starts, what they ask for.

use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::Scope;
use std::time::Duration;

use dv_dtls::{Config, Connect, Error, ServerConfig, ServerStats, Settings};
use libc::{c_int, c_long, sock_filter};

use crate::clients::{Client, PATIENCE, Told, echo, running};
use crate::common::process::{Over, wait_until};
use crate::contexts;
use crate::sockets::{BURST, bursts};
use crate::workers::first_hello;

/// What `make` makes in a thread of its own, in which a system call with these arguments, given by number and value, fails.
fn where_fails<T: Send>(call: c_long, arguments: &[(u32, c_int)], errno: c_int, make: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            filter(call, arguments, libc::SECCOMP_RET_ERRNO | errno as u32, 0);
            make()
        });
        thread.join().unwrap()
    })
}

/// Answers this thread's calls with these arguments with `verdict`.
fn filter(call: c_long, arguments: &[(u32, c_int)], verdict: u32, flags: libc::c_ulong) -> c_int {
    let load = |at: usize| sock_filter {
        code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
        jt: 0,
        jf: 0,
        k: at as u32,
    };
    let give = |verdict: u32| sock_filter { code: libc::BPF_RET as u16, jt: 0, jf: 0, k: verdict };
    let mut program = vec![];
    let compared = [(0, call as u32)].into_iter().chain(arguments.iter().map(|(number, value)| {
        // Their lower halves: this is for machines that begin with those.
        (std::mem::offset_of!(libc::seccomp_data, args) + 8 * *number as usize, *value as u32)
    }));
    for (at, value) in compared {
        let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        program.extend([load(at), sock_filter { code: equal, jt: 1, jf: 0, k: value }, give(libc::SECCOMP_RET_ALLOW)]);
    }
    program.push(give(verdict));
    let all = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the arguments are what these calls want; the program lives during the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let set = libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const all);
        assert!(set >= 0, "seccomp: {}", std::io::Error::last_os_error());
        set as c_int
    }
}

/// Hellos and messages come in at one socket then, and the worker itself sees to it that peers can talk.
#[test]
fn where_nothing_is_steered_peers_talk_beside_a_flood() {
    let arguments = [(1, libc::SOL_SOCKET), (2, libc::SO_ATTACH_REUSEPORT_CBPF)];
    let (server, address, _told) = where_fails(libc::SYS_setsockopt, &arguments, libc::EPERM, || {
        running(ServerConfig { workers: 2, ..ServerConfig::default() })
    });
    let context = contexts::client();
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(&context, address)).collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = Over(&over);
        scope.spawn(|| {
            let (hello, socket) = (first_hello(), UdpSocket::bind("127.0.0.1:0").unwrap());
            while !over.load(Ordering::Relaxed) {
                (0..256).for_each(|_| drop(socket.send_to(&hello, address)));
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        for round in 0..10u32 {
            // The kernel has one buffer for all, so a message may be lost in it.
            clients.iter_mut().for_each(|client| client.ask_until_answered(&round.to_be_bytes()));
        }
        let answered = || server.stats().endpoints.hellos_answered;
        wait_until(|| answered() > 10_000, || format!("that was no flood: {} hellos", answered()));
    });
    assert_eq!(Client::connect(&context, address).ask(b"new"), b"new");
    assert_eq!(server.stats().endpoints.strangers_dropped, 0, "each has stayed with its worker");
}

#[test]
fn without_gso_and_gro_the_bytes_are_the_same() {
    for (call, option) in [(libc::SYS_getsockopt, libc::UDP_SEGMENT), (libc::SYS_setsockopt, libc::UDP_GRO)] {
        let (_server, address, _told) =
            where_fails(call, &[(1, libc::SOL_UDP), (2, option)], libc::ENOPROTOOPT, || {
                running(ServerConfig::default())
            });
        let (answers, longest_train) = bursts(Client::connect(&contexts::client(), address));
        assert_eq!(answers, BURST);
        assert_eq!(longest_train, if option == libc::UDP_GRO { BURST } else { 1 }, "datagrams that left as one");
    }
}

/// A device that cannot cut trains of datagrams says EIO, and only when it gets the first.
#[test]
fn what_a_device_cannot_cut_leaves_in_single_datagrams() {
    let (refuse, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let error = || if refuse.swap(false, Ordering::Relaxed) { libc::EIO } else { 0 };
    std::thread::scope(|scope| {
        let _over = Over(&over);
        let (server, address, _told) = where_sending_asks(scope, &error, &over, || running(ServerConfig::default()));
        let client = Client::connect(&contexts::client(), address);
        refuse.store(true, Ordering::Relaxed);
        assert_eq!(bursts(client), (BURST, 1));
        assert!(!refuse.load(Ordering::Relaxed), "nothing was refused");
        assert_eq!(server.stats().sockets.datagrams_refused, 0);
    });
}

/// Each sendmmsg of some threads, and the error that it gets; 0: it goes on.
struct Sending<'a> {
    error: &'a (dyn Fn() -> c_int + Sync),
    over: &'a AtomicBool,
    listener: OwnedFd,
}

impl Sending<'_> {
    fn supervise(&self) {
        let wait = libc::pollfd { fd: self.listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SECCOMP_IOCTL_NOTIF_RECV and _SEND.
        const RECV: libc::c_ulong = 0xC000_2100 | (size_of::<libc::seccomp_notif>() as libc::c_ulong) << 16;
        const SEND: libc::c_ulong = 0xC000_2101 | (size_of::<libc::seccomp_notif_resp>() as libc::c_ulong) << 16;
        while !self.over.load(Ordering::Relaxed) {
            // SAFETY: plain C structs for which zeros are valid, of the kinds that these calls want.
            unsafe {
                if libc::poll(&mut { wait }, 1, 20) != 1 {
                    continue;
                }
                let mut asked: libc::seccomp_notif = std::mem::zeroed();
                if libc::ioctl(wait.fd, RECV, &raw mut asked) != 0 {
                    continue;
                }
                let error = -(self.error)();
                let flags = if error == 0 { libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32 } else { 0 };
                let answer = libc::seccomp_notif_resp { id: asked.id, val: 0, error, flags };
                libc::ioctl(wait.fd, SEND, &raw const answer);
            }
        }
    }
}

/// What `make` gives, in whose threads each sendmmsg asks for its error.
fn where_sending_asks<'scope, T: Send>(
    scope: &'scope Scope<'scope, '_>,
    error: &'scope (dyn Fn() -> c_int + Sync),
    over: &'scope AtomicBool,
    make: impl FnOnce() -> T + Send,
) -> T {
    let (made, listener) = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
            let listener = filter(libc::SYS_sendmmsg, &[], libc::SECCOMP_RET_USER_NOTIF, flags);
            // SAFETY: the call has made it, and it is nobody else's.
            (make(), unsafe { OwnedFd::from_raw_fd(listener) })
        });
        thread.join().unwrap()
    });
    let sending = Sending { error, over, listener };
    scope.spawn(move || sending.supervise());
    made
}

/// While a socket is full nothing leaves, but all that comes in is read, and nothing that was accepted is lost.
#[test]
fn a_full_socket_holds_up_what_leaves_and_nothing_else() {
    // So little that all of it fits in the client's buffer, but twice what the echoes take.
    const WAITING_MAX: usize = 8 << 10;
    let (full, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let error = || if full.load(Ordering::Relaxed) { libc::EAGAIN } else { 0 };
    std::thread::scope(|scope| {
        let _over = Over(&over);
        let mut config = ServerConfig::default();
        config.endpoint.max_waiting_bytes = WAITING_MAX;
        let (server, address, told) = where_sending_asks(scope, &error, &over, || running(config));

        let context = contexts::client();
        let mut client = Client::connect(&context, address);
        let Told::Open { session, .. } = told.recv_timeout(PATIENCE).unwrap() else { panic!() };
        full.store(true, Ordering::Relaxed);
        // A newcomer's hello is read, and its answer waits.
        let answered = server.stats().endpoints.hellos_answered;
        let mut newcomer = Client::begin(&context, address);
        let counted =
            |so: &dyn Fn(ServerStats) -> bool| wait_until(|| so(server.stats()), || format!("{:?}", server.stats()));
        counted(&|stats| stats.endpoints.hellos_answered > answered);
        // So are messages.
        (0..100u32).for_each(|number| client.send(&number.to_be_bytes()));
        counted(&|stats| stats.endpoints.messages_in == 100);
        // Whoever sends too much is told.
        let (mut sent, mut refused) = (0u32, 0);
        while refused < 50 {
            match server.send(session, &[&sent.to_be_bytes()[..], &[0; 200]].concat()) {
                Ok(()) => (sent, refused) = (sent + 1, 0),
                Err(why) => {
                    assert_eq!(why, Error::Again);
                    refused += 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            assert!(sent < 1000, "nobody says that it is too much");
        }
        assert!(sent as usize * 204 > WAITING_MAX, "{sent} messages");
        counted(&|stats| stats.sockets.socket_full > 0);

        full.store(false, Ordering::Relaxed);
        (0..100u32).for_each(|number| assert_eq!(client.message(), number.to_be_bytes()));
        (0..sent).for_each(|number| assert_eq!(client.message()[..4], number.to_be_bytes()));
        newcomer.finish();
        let stats = server.stats();
        assert_eq!((stats.sockets.messages_refused, stats.sockets.datagrams_refused), (0, 0));
        assert_eq!(stats.endpoints.datagrams_dropped, 0);

        // What the server itself is asked for does not wait behind messages that find no room.
        full.store(true, Ordering::Relaxed);
        let mut refused = 0;
        while refused < 50 {
            refused = if server.send(session, &[0; 200]).is_ok() { 0 } else { refused + 1 };
            std::thread::sleep(Duration::from_millis(1));
        }
        server.shutdown(Duration::ZERO).unwrap();
        let ((tell, joined), joining) = (channel(), Arc::new(server));
        let server = joining.clone();
        scope.spawn(move || tell.send(joining.join()));
        let joined = joined.recv_timeout(PATIENCE);
        server.stop();
        assert_eq!(joined, Ok(Ok(())));
    });
}

/// One of two sockets is full for good: what is to leave by it waits, and nobody at the other notices.
#[test]
fn a_full_socket_holds_up_no_other() {
    let sockets = ["127.0.0.1:0", "127.0.0.2:0"].map(|address| UdpSocket::bind(address).unwrap());
    let [full, free] = [0, 1].map(|number: usize| sockets[number].local_addr().unwrap());
    let arguments = [(0, sockets[0].as_raw_fd())];
    // Nobody repeats a flight, however busy the machine is: what leaves is counted.
    let settings = Settings { first_timeout: 2 * PATIENCE, longest_timeout: 2 * PATIENCE, ..Settings::default() };
    let patient = Config { settings, ..Config::default() };
    let (server, _told) = where_fails(libc::SYS_sendmmsg, &arguments, libc::EAGAIN, || {
        let (server, told) = echo(ServerConfig { endpoint: patient.clone(), ..ServerConfig::default() });
        sockets.into_iter().for_each(|socket| assert!(server.bind_socket(socket).is_ok()));
        server.start().unwrap();
        (server, told)
    });
    let context = contexts::client();
    let _waits = Client::begin(&context, full);
    wait_until(|| server.stats().sockets.socket_full > 0, || format!("{:?}", server.stats()));
    let mut client = Client::begin_as(&context, Connect::to(free), Config { accept: false, ..patient }, free.ip());
    client.finish();
    (0..100u32).for_each(|number| assert_eq!(client.ask(&number.to_be_bytes()), number.to_be_bytes()));
    // Only what has left counts as sent: three flights and the echoes, not the answer that waits.
    wait_until(|| server.stats().endpoints.datagrams_out >= 3 + 100, || format!("{:?}", server.stats()));
    let stats = server.stats().endpoints;
    assert_eq!((stats.hellos_answered, stats.datagrams_out), (2, 3 + 100));
}

/// The ports of clients that are gone answer with ICMP errors, which come up at a socket that has asked for them.
#[test]
fn icmp_errors_end_nothing() {
    let (server, told) = echo(ServerConfig::default());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (address, copy) = (socket.local_addr().unwrap(), socket.try_clone().unwrap());
    let receive_errors = |on: c_int| {
        let len = size_of::<c_int>() as libc::socklen_t;
        // SAFETY: the pointer and the length describe `on`.
        let set = unsafe {
            libc::setsockopt(copy.as_raw_fd(), libc::IPPROTO_IP, libc::IP_RECVERR, (&raw const on).cast(), len)
        };
        assert_eq!(set, 0);
    };
    receive_errors(1);
    server.bind_socket(socket).unwrap();
    server.start().unwrap();
    let context = contexts::client();
    for errors in [false, true] {
        // The server does not want them, as nobody takes them from their queue.
        if errors {
            receive_errors(1);
        }
        let mut alive = Client::connect(&context, address);
        let gone: Vec<_> = (0..5).map(|_| Client::connect(&context, address)).collect();
        drop(gone);
        let opened: Vec<_> = told.try_iter().collect();
        for round in 0..20u8 {
            for told in &opened {
                let Told::Open { session, .. } = told else { continue };
                server.send(*session, &[round]).unwrap();
            }
            assert_eq!(alive.message(), [round]);
            assert_eq!(alive.ask(&[round, 1]), [round, 1]);
        }
        let mut error = 0;
        let mut len = size_of::<c_int>() as libc::socklen_t;
        // SAFETY: the pointers describe `error` and its length.
        unsafe {
            libc::getsockopt(copy.as_raw_fd(), libc::IPPROTO_IP, libc::IP_RECVERR, (&raw mut error).cast(), &mut len)
        };
        assert_eq!(error, c_int::from(errors));
        let _ = told.try_iter().count();
    }
    server.stop();
    server.join().unwrap();
}
