//! A C program that calls the helpers in any order, with any arguments that the contract allows, while real clients talk to
//! it and somebody bends what they say. Nothing is touched that should not be, and at the end the table is empty and a new
//! client gets through. What the helpers send is caught before the kernel: nothing is lost or late that an input does not
//! say.

use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_int, c_void};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use dv_dtls::*;
use foreign_types::ForeignTypeRef;
use libc::{AF_INET, AF_INET6, AF_UNIX, in_addr, in6_addr, sockaddr, sockaddr_in, sockaddr_in6, socklen_t};
use openssl::ssl::{SslContext, SslContextBuilder, SslOptions};
use openssl_sys as ffi;

use crate::common::{Proof, Script, Seen, client_context, heap, pass, pass_to_the_next_round, seed, server_context};

/// Things done for one input.
const STEPS_MAX: usize = 100;
/// The most that the Rust side may hold.
const HEAP_MAX: isize = 4 << 20;

const CLIENTS: usize = 4;
const FIRST_PORT: u16 = 40_000;
/// Where the clients see the program.
const SERVER: &str = "127.0.0.1:5684";
const BIO_CTRL_RESET: c_int = 1;
/// Whoever else calls in: an IPv6 address, and one that no socket has.
const OTHERS: [&str; 2] = ["[2001:db8::1]:5684", "192.0.2.1:5684"];

/// What lasts from one input to the next.
struct Setup {
    /// The program's, and another one. Nothing goes through them.
    sockets: [UdpSocket; 2],
    /// Cookies with our callbacks set by the program, with none set, and no cookies; and with none set, and certificates.
    contexts: [SslContext; 4],
    of_clients: SslContext,
}

thread_local! {
    static SETUP: Setup = Setup::new();
    static SOCKETS: Cell<[c_int; 2]> = const { Cell::new([-1; 2]) };
    /// What was sent to each client and has not been looked at yet.
    static SENT: RefCell<[Vec<Vec<u8>>; CLIENTS]> = const { RefCell::new([const { Vec::new() }; CLIENTS]) };
}

/// Takes the place of the C library's, for the sockets of the setup.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn sendto(
    fd: c_int,
    bytes: *const c_void,
    len: usize,
    flags: c_int,
    to: *const sockaddr,
    to_len: socklen_t,
) -> isize {
    // SAFETY: by contract.
    unsafe {
        if !SOCKETS.get().contains(&fd) {
            return libc::syscall(libc::SYS_sendto, fd, bytes, len, flags, to, to_len) as isize;
        }
        let port = u16::from_be((*to.cast::<sockaddr_in>()).sin_port);
        let errno = match c_int::from((*to).sa_family) {
            AF_INET => match port.checked_sub(FIRST_PORT).filter(|number| usize::from(*number) < CLIENTS) {
                Some(client) => {
                    let datagram = std::slice::from_raw_parts(bytes.cast::<u8>(), len).to_vec();
                    SENT.with_borrow_mut(|sent| sent[usize::from(client)].push(datagram));
                    return len as isize;
                }
                None => libc::ENETUNREACH,
            },
            _ => libc::EAFNOSUPPORT,
        };
        *libc::__errno_location() = errno;
        -1
    }
}

/// What was sent to a client since it was last asked.
fn sent_to(client: usize) -> Vec<Vec<u8>> {
    SENT.with_borrow_mut(|sent| std::mem::take(&mut sent[client]))
}

impl Setup {
    fn new() -> Setup {
        let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        SOCKETS.set([sockets[0].as_raw_fd(), sockets[1].as_raw_fd()]);
        let exchange = |context: &mut SslContextBuilder| {
            context.set_options(SslOptions::COOKIE_EXCHANGE);
        };
        let callbacks = server_context(Proof::Key, exchange);
        // SAFETY: the context is live.
        unsafe {
            let raw = callbacks.as_ptr();
            SSL_CTX_set_cookie_generate_cb(raw, dv_dtls_generate_cookie_callback);
            SSL_CTX_set_cookie_verify_cb(raw, dv_dtls_verify_cookie_callback);
        }
        let contexts = [
            callbacks,
            server_context(Proof::Key, exchange),
            server_context(Proof::Key, |_| {}),
            server_context(Proof::Certificates, exchange),
        ];
        Setup { sockets, contexts, of_clients: client_context() }
    }

    fn client(&self) -> Endpoint {
        let config = Config { accept: false, verify_server: false, ..Config::default() };
        Endpoint::new(self.of_clients.clone(), config).unwrap()
    }
}

unsafe extern "C" {
    fn SSL_CTX_set_cookie_generate_cb(
        ctx: *mut ffi::SSL_CTX,
        callback: unsafe extern "C" fn(*mut ffi::SSL, *mut u8, *mut u32) -> c_int,
    );
    fn SSL_CTX_set_cookie_verify_cb(
        ctx: *mut ffi::SSL_CTX,
        callback: unsafe extern "C" fn(*mut ffi::SSL, *const u8, u32) -> c_int,
    );
}

/// The program.
struct Program<'a> {
    setup: &'a Setup,
    context: *mut c_void,
    /// Made when they are first needed.
    clients: [Option<Endpoint>; CLIENTS],
    /// Of the clients' clock.
    now: u64,
    /// What has come in and was not looked at yet, with who sent it; and all that was seen.
    inbox: Vec<(usize, Vec<u8>)>,
    seen: Seen,
    /// The connections that are ours to free.
    conns: Vec<*mut dv_udp_conn_t>,
    /// The head of a list of ours.
    list: Box<dv_list_node>,
    writes_itself: bool,
    /// Handshakes that may still begin: those are what takes time.
    handshakes_left: u32,
}

/// The first byte says which context and settings there are, then come the calls.
pub fn run(input: &[u8]) {
    SETUP.with(|setup| {
        seed(3);
        pass_to_the_next_round();
        let mut script = Script(input);
        let flags = script.byte();
        let mut program = Program::new(setup, flags);
        let before = heap();
        for _ in 0..STEPS_MAX {
            if script.is_over() {
                break;
            }
            program.step(&mut script);
            assert!(heap() - before < HEAP_MAX);
        }
        program.end(flags & 0xc0 == 0x40);
    });
}

fn key(peer: SocketAddr) -> dv_udp_conn_key_t {
    // SAFETY: plain old data, of which all zeros are valid.
    let mut key: dv_udp_conn_key_t = unsafe { std::mem::zeroed() };
    match peer {
        SocketAddr::V4(v4) => {
            key.addr4 = sockaddr_in {
                sin_family: AF_INET as u16,
                sin_port: v4.port().to_be(),
                sin_addr: in_addr { s_addr: u32::from(*v4.ip()).to_be() },
                sin_zero: [0; 8],
            };
        }
        SocketAddr::V6(v6) => {
            key.addr6 = sockaddr_in6 {
                sin6_family: AF_INET6 as u16,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
        }
    }
    key
}

fn bytes_of(key: &dv_udp_conn_key_t) -> [u8; size_of::<dv_udp_conn_key_t>()] {
    // SAFETY: all of it was written to, by `key` above or by calloc.
    unsafe { std::mem::transmute_copy(key) }
}

impl<'a> Program<'a> {
    fn new(setup: &'a Setup, flags: u8) -> Program<'a> {
        (0..CLIENTS).for_each(|client| drop(sent_to(client)));
        let mut list = Box::new(dv_list_node { next: ptr::null_mut(), prev: ptr::null_mut() });
        (list.next, list.prev) = (&raw mut *list, &raw mut *list);
        let context = if flags & 0x33 == 0x31 { 3 } else { usize::from(flags & 3) % 3 };
        let program = Program {
            setup,
            context: setup.contexts[context].as_ptr().cast(),
            clients: [const { None }; CLIENTS],
            now: 0,
            inbox: Vec::new(),
            seen: Seen::default(),
            conns: Vec::new(),
            list,
            // Where OpenSSL's buffers are given back nobody else may write on the SSLs.
            writes_itself: flags & 4 == 0,
            handshakes_left: [1, 1, 2, 4][usize::from(flags >> 6)],
        };
        program.configure(|config| {
            config.max_sessions = 6;
            config.max_handshakes = 4;
            config.max_sessions_per_source = 6;
            config.max_handshakes_per_source = 4;
            config.mtu = if flags & 8 == 0 { 1280 } else { 256 };
            config.first_timeout_ms = 1;
            config.longest_timeout_ms = 2;
            config.handshake_timeout_ms = if flags & 16 == 0 { 60_000 } else { 10 };
            config.idle_timeout_ms = if flags & 32 == 0 { 0 } else { 10 };
        });
        program
    }

    fn configure(&self, change: impl FnOnce(&mut dv_config)) {
        // SAFETY: the struct is as long as is said.
        unsafe {
            let mut config: dv_config = std::mem::zeroed();
            assert_eq!(dv_dtls_config(&mut config, size_of::<dv_config>()), 0);
            change(&mut config);
            config.release_buffers = c_int::from(!self.writes_itself);
            dv_dtls_set_config(&config);
        }
    }

    fn peer(&self, number: usize) -> SocketAddr {
        match number.checked_sub(CLIENTS) {
            None => SocketAddr::from(([127, 0, 0, 1], FIRST_PORT + number as u16)),
            Some(other) => OTHERS[other % OTHERS.len()].parse().unwrap(),
        }
    }

    /// A socket that works, mostly.
    fn socket(&self, script: &mut Script<'_>) -> c_int {
        match script.byte() {
            255 => -1,
            254 => 1_000_000,
            253 => self.setup.sockets[1].as_raw_fd(),
            _ => self.setup.sockets[0].as_raw_fd(),
        }
    }

    fn conn(&self, script: &mut Script<'_>) -> *mut dv_udp_conn_t {
        self.conns.get(script.below(self.conns.len())).copied().unwrap_or(ptr::null_mut())
    }

    /// It is ours from now on.
    fn own(&mut self, conn: *mut dv_udp_conn_t) {
        if !conn.is_null() && !self.conns.contains(&conn) {
            self.conns.push(conn);
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() % 24 {
            // As a main does it.
            0..4 => {
                let most = 1 + script.below(32);
                let _ = (0..most).all(|_| self.serve());
            }
            4 | 5 => {
                let from = script.below(CLIENTS + OTHERS.len());
                let datagram = script.datagram(&self.seen.datagrams);
                self.take(from, &datagram);
            }
            6 | 7 => self.client(script),
            8 => {
                let (peer, fd) = (self.peer(script.below(CLIENTS + OTHERS.len())), self.socket(script));
                let mut key = key(peer);
                match script.byte() {
                    255 => key = unspecified(AF_INET6),
                    254 => key = unspecified(AF_UNIX),
                    _ => {}
                }
                let mut datagram = script.datagram(&self.seen.datagrams).into_boxed_slice();
                // SAFETY: the datagram is as long as is said.
                let conn = unsafe {
                    dv_dtls_conn_new(
                        self.context,
                        datagram.as_mut_ptr().cast(),
                        datagram.len(),
                        fd,
                        &mut key,
                        script.byte().into(),
                    )
                };
                self.own(conn);
            }
            9 => {
                let peer = self.peer(script.below(CLIENTS + OTHERS.len()));
                self.find(peer);
            }
            10 | 11 => {
                let conn = self.conn(script);
                let datagram = if script.flag() { None } else { Some(script.datagram(&self.seen.datagrams)) };
                let (fd, room) = (self.socket(script), script.below(1500));
                self.read(conn, datagram.as_deref(), fd, room);
            }
            12 | 13 => {
                let (conn, len, fd) = (self.conn(script), script.below(1500), self.socket(script));
                let mut message = vec![b'm'; len].into_boxed_slice();
                // SAFETY: the message is as long as is said.
                let sent = unsafe { dv_dtls_write(conn, message.as_mut_ptr().cast(), len, fd, ptr::null_mut(), 0, 0) };
                assert!(sent == DV_ERROR || sent == len as c_int && len > 0);
            }
            14 => {
                let (conn, fd) = (self.conn(script), self.socket(script));
                // SAFETY: NULL or ours.
                unsafe { dv_dtls_shutdown(conn, fd, 0) };
            }
            15 => {
                let conn = self.conn(script);
                self.free(conn, script.flag());
            }
            // SAFETY: NULL or ours.
            16 => unsafe { dv_dtls_conn_del(self.conn(script)) },
            // SAFETY: as above.
            17 => unsafe { dv_dtls_conn_add(self.conn(script)) },
            18 => self.link(script),
            19 => self.touch(script),
            20 => {
                let (conn, fd) = (self.conn(script), self.socket(script));
                // SAFETY: NULL or ours.
                unsafe {
                    let Some(conn) = conn.as_mut() else { return };
                    dv_dtls_msg_send(conn.wbio.cast(), fd, &mut conn.key, 0);
                }
            }
            21 => self.own_ssl(script),
            22 => {
                pass(1 << script.below(28));
                assert!(dv_dtls_next_timeout() >= -1);
                assert!(dv_dtls_handle_timeouts() >= 0);
            }
            _ => {
                dv_dtls_conn_table_init();
                let (sessions, handshakes, mtu) = (script.byte(), script.byte(), script.byte());
                self.configure(|config| {
                    config.max_sessions = sessions.into();
                    config.max_handshakes = handshakes.into();
                    config.mtu = 8 * u32::from(mtu);
                });
            }
        }
    }

    /// A client says hello or something else, takes what it was sent, goes, or begins anew on its port.
    fn client(&mut self, script: &mut Script<'_>) {
        let (number, what) = (script.below(CLIENTS), script.byte());
        self.now += 1 << (what >> 4);
        let endpoint = self.clients[number].get_or_insert_with(|| self.setup.client());
        let mine = endpoint.sessions().next();
        match (mine, what % 4) {
            (None, _) if self.handshakes_left == 0 => {}
            (None, _) => {
                self.handshakes_left -= 1;
                drop(endpoint.connect(self.now, &Connect::to(SERVER.parse().unwrap())));
            }
            (Some(_), 0) => *endpoint = self.setup.client(),
            (Some(session), 1) => drop(endpoint.close(session)),
            (Some(session), _) => drop(endpoint.send(session, b"from a client")),
        }
        self.pump(number);
    }

    /// What a client was sent reaches it, and what it says reaches the inbox.
    fn pump(&mut self, number: usize) {
        let sent = sent_to(number);
        let Some(endpoint) = &mut self.clients[number] else { return };
        endpoint.advance(self.now);
        let from = SERVER.parse().unwrap();
        sent.iter().for_each(|datagram| endpoint.receive(self.now, datagram, from, None));
        while endpoint.event(&mut Vec::new()).is_some() {}
        while let Some(transmit) = endpoint.transmit(1) {
            self.seen.note(transmit.bytes);
            if self.inbox.len() < 64 {
                self.inbox.push((number, transmit.bytes.to_vec()));
            }
        }
    }

    /// One datagram, from whichever client speaks first; whether there was one.
    fn serve(&mut self) -> bool {
        (0..CLIENTS).for_each(|number| self.pump(number));
        if self.inbox.is_empty() {
            return false;
        }
        let (from, datagram) = self.inbox.remove(0);
        self.take(from, &datagram);
        true
    }

    /// What the loop of a main does with a datagram: it echoes what is in it.
    fn take(&mut self, from: usize, datagram: &[u8]) {
        let (peer, fd) = (self.peer(from), self.setup.sockets[0].as_raw_fd());
        let conn = self.find(peer);
        if conn.is_null() {
            let (mut key, mut datagram) = (key(peer), Box::<[u8]>::from(datagram));
            // SAFETY: the datagram is as long as is said.
            let conn = unsafe {
                dv_dtls_conn_new(self.context, datagram.as_mut_ptr().cast(), datagram.len(), fd, &mut key, 0)
            };
            return self.own(conn);
        }
        let mut got = self.read(conn, Some(datagram), fd, 2048);
        while got > 0 {
            let mut message = vec![b'e'; got as usize];
            // SAFETY: the message is as long as is said.
            unsafe { dv_dtls_write(conn, message.as_mut_ptr().cast(), message.len(), fd, ptr::null_mut(), 0, 0) };
            got = self.read(conn, None, fd, 2048);
        }
        if got < 0 {
            // SAFETY: it is ours.
            unsafe { dv_dtls_shutdown(conn, fd, 0) };
            self.free(conn, false);
        }
    }

    fn find(&mut self, peer: SocketAddr) -> *mut dv_udp_conn_t {
        let mut key = key(peer);
        // SAFETY: the key is valid.
        let conn = unsafe { dv_dtls_conn_find(&mut key) };
        // SAFETY: what was found is readable until it is freed.
        if let Some(found) = unsafe { conn.as_ref() } {
            assert_eq!(bytes_of(&found.key), bytes_of(&key));
        }
        self.own(conn);
        conn
    }

    fn read(&self, conn: *mut dv_udp_conn_t, datagram: Option<&[u8]>, fd: c_int, room: usize) -> c_int {
        let (mut datagram, mut out) = (datagram.map(Box::<[u8]>::from), vec![0; room].into_boxed_slice());
        let len = datagram.as_ref().map_or(0, |datagram| datagram.len());
        let datagram = datagram.as_mut().map_or(ptr::null_mut(), |datagram| datagram.as_mut_ptr());
        // SAFETY: the buffers are as long as is said.
        let got = unsafe { dv_dtls_read(conn, datagram.cast::<c_char>(), len, fd, out.as_mut_ptr().cast(), room, 0) };
        assert!((-2..=room as c_int).contains(&got));
        got
    }

    fn free(&mut self, conn: *mut dv_udp_conn_t, by_hand: bool) {
        self.conns.retain(|other| *other != conn);
        // SAFETY: it is ours, and nobody uses it any more.
        unsafe {
            match conn.as_ref() {
                // The original's conn_free: the SSL first. A list of our own would have to be left before.
                Some(known) if by_hand && known.list.next.is_null() => {
                    ffi::SSL_free(known.ssl.cast());
                    dv_dtls_conn_del(conn);
                    libc::free(conn.cast());
                }
                _ => dv_dtls_conn_free(conn),
            }
        }
    }

    /// Puts a connection into our list, or takes it out of it.
    fn link(&mut self, script: &mut Script<'_>) {
        // SAFETY: all that hangs in the list is ours and valid.
        unsafe {
            let (head, conn) = (&raw mut *self.list, self.conn(script));
            if conn.is_null() {
                return;
            }
            let node = &raw mut (*conn).list;
            if (*node).next.is_null() {
                ((*node).next, (*node).prev) = ((*head).next, head);
                (*(*head).next).prev = node;
                (*head).next = node;
            } else {
                (*(*node).next).prev = (*node).prev;
                (*(*node).prev).next = (*node).next;
                ((*node).next, (*node).prev) = (ptr::null_mut(), ptr::null_mut());
            }
        }
    }

    /// What a program may do with the SSL and the BIOs themselves.
    fn touch(&mut self, script: &mut Script<'_>) {
        let (conn, mut buffer) = (self.conn(script), [0; 700]);
        // SAFETY: NULL or ours; the library has given it up when there is no SSL.
        unsafe {
            let Some(conn) = conn.as_ref().filter(|conn| !conn.ssl.is_null()) else { return };
            let (ssl, rbio, wbio) = (conn.ssl.cast(), conn.rbio.cast(), conn.wbio.cast());
            let _ = match script.byte() % 8 {
                0 => ffi::SSL_read(ssl, buffer.as_mut_ptr().cast(), 700),
                1 if self.writes_itself => ffi::SSL_write(ssl, buffer.as_ptr().cast(), 100),
                2 | 3 => {
                    let datagram = script.datagram(&self.seen.datagrams);
                    ffi::BIO_write(rbio, datagram.as_ptr().cast(), datagram.len() as c_int)
                }
                4 => ffi::BIO_read(wbio, buffer.as_mut_ptr().cast(), script.below(700) as c_int),
                5 => ffi::BIO_ctrl([rbio, wbio][script.below(2)], BIO_CTRL_RESET, 0, ptr::null_mut()) as c_int,
                6 => ffi::SSL_do_handshake(ssl),
                _ => dv_openssl_get_verify_result(conn.ssl),
            };
            ffi::ERR_clear_error();
        }
    }

    /// A connection that the program makes himself, over memory BIOs.
    fn own_ssl(&mut self, script: &mut Script<'_>) {
        // SAFETY: all is made here, and freed by conn_free.
        unsafe {
            let conn = libc::calloc(1, size_of::<dv_udp_conn_t>()).cast::<dv_udp_conn_t>();
            let ssl = ffi::SSL_new(self.setup.contexts[2].as_ptr());
            let (rbio, wbio) = (ffi::BIO_new(ffi::BIO_s_mem()), ffi::BIO_new(ffi::BIO_s_mem()));
            ffi::SSL_set_bio(ssl, rbio, wbio);
            ffi::SSL_set_accept_state(ssl);
            (*conn).key = key(self.peer(script.below(CLIENTS + OTHERS.len())));
            ((*conn).ssl, (*conn).rbio, (*conn).wbio) = (ssl.cast(), rbio.cast(), wbio.cast());
            dv_dtls_conn_add(conn);
            self.conns.push(conn);
        }
    }

    /// Frees everything. The table is empty then, and as good as new: that is tried with some inputs, as it takes a handshake.
    fn end(mut self, with_a_new_client: bool) {
        while let Some(conn) = self.conns.pop() {
            // SAFETY: it is ours.
            unsafe { dv_dtls_conn_free(conn) };
        }
        for number in 0..CLIENTS + OTHERS.len() {
            // Behind a connection may have stood another.
            let mut behind = 0;
            while let conn = self.find(self.peer(number))
                && !conn.is_null()
            {
                self.free(conn, false);
                behind += 1;
                assert!(behind <= 8);
            }
        }
        assert!(ptr::eq(self.list.next, &raw const *self.list) && ptr::eq(self.list.prev, &raw const *self.list));
        // SAFETY: the struct is as long as is said.
        let stats = unsafe {
            let mut stats: dv_stats = std::mem::zeroed();
            assert_eq!(dv_dtls_stats(&mut stats, size_of::<dv_stats>()), 0);
            stats
        };
        assert_eq!((stats.sessions, stats.handshakes), (0, 0));
        if with_a_new_client {
            self.a_new_client_gets_through();
        }
    }

    fn a_new_client_gets_through(mut self) {
        self.configure(|config| {
            (config.max_sessions, config.max_handshakes, config.mtu) = (100, 100, 1280);
            (config.handshake_timeout_ms, config.idle_timeout_ms) = (60_000, 0);
        });
        let number = CLIENTS - 1;
        self.clients = [const { None }; CLIENTS];
        self.inbox.clear();
        drop(sent_to(number));
        let client = self.clients[number].insert(self.setup.client());
        let session = client.connect(self.now, &Connect::to(SERVER.parse().unwrap())).unwrap();
        while self.serve() {}
        self.clients[number].as_mut().unwrap().send(session, b"through").unwrap();
        self.serve();
        let (mut heard, mut message) = (false, Vec::new());
        let endpoint = self.clients[number].as_mut().unwrap();
        for datagram in sent_to(number) {
            endpoint.receive(self.now, &datagram, SERVER.parse().unwrap(), None);
        }
        while let Some(event) = endpoint.event(&mut message) {
            heard |= matches!(event, Event::Message { .. }) && message == *b"eeeeeee";
        }
        assert!(heard);
        while let Some(conn) = self.conns.pop() {
            // SAFETY: it is ours.
            unsafe { dv_dtls_conn_free(conn) };
        }
    }
}

fn unspecified(family: c_int) -> dv_udp_conn_key_t {
    let mut key = key(SocketAddr::from(([0; 16], 0)));
    key.addr.sa_family = family as u16;
    key
}
