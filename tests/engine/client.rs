//! A client on plain OpenSSL, whose datagrams a test can see, change and withhold.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use foreign_types::ForeignTypeRef;
use openssl::ssl::{
    ErrorCode, ShutdownState, Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslSession, SslStream,
    SslVerifyMode,
};

use crate::common::certificates;

/// How long a reply or a handshake may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How often a waiting client looks at its timer.
const TURN: Duration = Duration::from_millis(20);

/// What becomes of a datagram that a client sends.
pub type Rewrite = Box<dyn FnMut(&[u8]) -> Vec<Vec<u8>> + Send>;

/// The socket under a client.
pub struct Wire {
    socket: UdpSocket,
    /// All that has come, and all that libssl has sent.
    pub received: Vec<Vec<u8>>,
    pub sent: Vec<Vec<u8>>,
    rewrite: Option<Rewrite>,
    /// With the server's flight the network is gone.
    ends_at_flight: bool,
    /// HelloVerifyRequests are heard; flights come, but libssl does not see them.
    deaf: bool,
}

impl Wire {
    pub fn new(socket: UdpSocket, to: SocketAddr) -> Wire {
        socket.connect(to).expect("a server of this family");
        socket.set_read_timeout(Some(TURN)).expect("not zero");
        Wire { socket, received: Vec::new(), sent: Vec::new(), rewrite: None, ends_at_flight: false, deaf: false }
    }

    /// What has come of the server's flights: all but HelloVerifyRequests, of which there are as many as there were hellos.
    pub fn flights(&self) -> Vec<&[u8]> {
        self.received.iter().map(|datagram| &datagram[..]).filter(|datagram| is_of_a_flight(datagram)).collect()
    }

    fn is_gone(&self) -> bool {
        self.ends_at_flight && !self.flights().is_empty()
    }

    /// Sends past libssl.
    pub fn forge(&self, datagram: &[u8]) {
        self.socket.send(datagram).expect("loopback takes it");
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.socket.recv(buffer) {
            Ok(len) if !self.is_gone() => {
                self.received.push(buffer[..len].to_vec());
                if self.deaf && is_of_a_flight(&buffer[..len]) {
                    Err(io::ErrorKind::WouldBlock.into())
                } else {
                    Ok(len)
                }
            }
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.sent.push(datagram.to_vec());
        if self.is_gone() {
            return Ok(datagram.len());
        }
        let datagrams = match &mut self.rewrite {
            Some(rewrite) => rewrite(datagram),
            None => vec![datagram.to_vec()],
        };
        datagrams.iter().for_each(|datagram| self.forge(datagram));
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_of_a_flight(datagram: &[u8]) -> bool {
    const HELLO_VERIFY_REQUEST: u8 = 3;
    datagram.get(13) != Some(&HELLO_VERIFY_REQUEST)
}

/// A context for clients that trust the test CAs.
pub fn context() -> SslContextBuilder {
    let mut context = SslContext::builder(SslMethod::dtls_client()).expect("a context");
    context.set_ca_file(certificates().join("ca.pem")).expect("the test CAs");
    context.set_verify(SslVerifyMode::PEER);
    context.set_options(SslOptions::NO_QUERY_MTU);
    context
}

/// A context whose hellos are longer by about `bytes`: a list of application protocols that nobody speaks.
pub fn talkative(bytes: usize) -> SslContextBuilder {
    let mut context = context();
    let protocols: Vec<u8> = (0..bytes.div_ceil(100)).flat_map(|_| [&[99][..], &[b'x'; 99]].concat()).collect();
    context.set_alpn_protos(&protocols).expect("a list of protocols");
    context
}

/// A socket on a port of its own at 127.0.0.1.
pub fn socket() -> UdpSocket {
    socket_at([127, 0, 0, 1])
}

/// A socket on a port of its own.
pub fn socket_at(host: [u8; 4]) -> UdpSocket {
    UdpSocket::bind((IpAddr::from(host), 0)).expect("a free port")
}

/// A DTLS client.
pub struct Client {
    stream: SslStream<Wire>,
}

impl Client {
    /// A client that has sent nothing yet, with datagrams of at most `mtu` bytes.
    pub fn new(context: &SslContext, socket: UdpSocket, to: SocketAddr, mtu: u32) -> Client {
        let mut ssl = Ssl::new(context).expect("an SSL");
        ssl.set_connect_state();
        ssl.set_mtu(mtu).expect("an MTU");
        Client { stream: SslStream::new(ssl, Wire::new(socket, to)).expect("a stream") }
    }

    /// A client that is connected.
    pub fn connect(to: SocketAddr) -> Client {
        Client::connect_from(socket(), to)
    }

    /// A client that is connected from this socket.
    pub fn connect_from(socket: UdpSocket, to: SocketAddr) -> Client {
        let mut client = Client::new(&context().build(), socket, to, 1400);
        client.handshake(PATIENCE).expect("a handshake");
        client
    }

    /// Offers a session of a client with the same context.
    pub fn resuming(self, session: &SslSession) -> Client {
        // SAFETY: both are live.
        unsafe { openssl_sys::SSL_set_session(self.ssl().as_ptr(), session.as_ptr()) };
        self
    }

    /// Decides from now on what becomes of the datagrams that libssl sends.
    pub fn rewrite(&mut self, rewrite: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) {
        self.stream.get_mut().rewrite = Some(Box::new(rewrite));
    }

    pub fn let_through(&mut self) {
        self.stream.get_mut().rewrite = None;
    }

    pub fn wire(&self) -> &Wire {
        self.stream.get_ref()
    }

    pub fn ssl(&self) -> &openssl::ssl::SslRef {
        self.stream.ssl()
    }

    pub fn session(&self) -> SslSession {
        self.ssl().session().expect("a session").to_owned()
    }

    /// Goes through the handshake, repeating flights as OpenSSL does; an error when it fails or takes longer than `limit`.
    pub fn handshake(&mut self, limit: Duration) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            match self.stream.do_handshake() {
                Ok(()) => return Ok(()),
                Err(error) if error.code() == ErrorCode::WANT_READ => self.handle_timeout(),
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(format!("no handshake within {limit:?}"))
    }

    /// Asks for another handshake over the connection. [`Client::handshake`] goes through it.
    pub fn begin_anew(&mut self) {
        unsafe extern "C" {
            fn SSL_renegotiate(ssl: *mut openssl_sys::SSL) -> libc::c_int;
        }
        // SAFETY: the SSL is live.
        let begun = unsafe { SSL_renegotiate(self.ssl().as_ptr()) };
        assert_eq!(begun, 1, "OpenSSL's client may ask");
    }

    fn handle_timeout(&mut self) {
        const DTLS_CTRL_HANDLE_TIMEOUT: i32 = 74;
        // SAFETY: the SSL is live; this is DTLSv1_handle_timeout, a macro.
        unsafe {
            openssl_sys::SSL_ctrl(self.stream.ssl().as_ptr(), DTLS_CTRL_HANDLE_TIMEOUT, 0, std::ptr::null_mut());
        }
    }

    /// Goes on with the handshake until the server's flight comes, and no further.
    pub fn begin(&mut self) {
        self.stream.get_mut().ends_at_flight = true;
        self.goes_on_until(Wire::is_gone);
        self.stream.get_mut().ends_at_flight = false;
    }

    /// Hears nothing of the server's flights, repeats what was not answered, and goes on until so many datagrams of them have
    /// come.
    pub fn turn_deaf(&mut self, datagrams: usize) {
        self.stream.get_mut().deaf = true;
        self.goes_on_until(|wire| wire.flights().len() >= datagrams);
        self.stream.get_mut().deaf = false;
    }

    /// Goes on with the handshake, repeating flights as OpenSSL does, and neither finishes nor fails before it is so.
    pub fn goes_on_until(&mut self, done: impl Fn(&Wire) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self.wire()) {
            assert!(Instant::now() < deadline, "it does not happen; the server has said {:?}", self.wire().received);
            match self.stream.do_handshake() {
                Err(error) if error.code() == ErrorCode::WANT_READ => self.handle_timeout(),
                ended => panic!("neither finished nor failed was wanted: {ended:?}"),
            }
        }
    }

    pub fn send(&mut self, message: &[u8]) {
        self.stream.ssl_write(message).expect("sealed");
    }

    /// The next message, `None` when none comes for a while, an error when the connection is over.
    pub fn receive(&mut self, patience: Duration) -> Result<Option<Vec<u8>>, String> {
        let mut buffer = vec![0; 1 << 14];
        let deadline = Instant::now() + patience;
        loop {
            match self.stream.ssl_read(&mut buffer) {
                Ok(len) => return Ok(Some(buffer[..len].to_vec())),
                Err(error) if error.code() == ErrorCode::WANT_READ => {
                    if Instant::now() >= deadline {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Sends one message and asserts that it is answered.
    pub fn ask(&mut self, door: &super::door::Door, message: &[u8]) {
        self.send(message);
        let reply = self.receive(PATIENCE);
        assert_eq!(reply, Ok(Some(door.reply(message))), "the reply to {:?}", String::from_utf8_lossy(message));
    }

    /// Asserts that the server says goodbye.
    pub fn is_closed(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.receive(TURN) {
                Err(_) => {
                    assert!(self.stream.get_shutdown().contains(ShutdownState::RECEIVED), "ended without a goodbye");
                    return;
                }
                Ok(_) => continue,
            }
        }
        panic!("not closed within {PATIENCE:?}");
    }

    /// Says goodbye.
    pub fn shut_down(&mut self) {
        let _ = self.stream.shutdown();
    }

    pub fn close(mut self) {
        self.shut_down();
    }
}
