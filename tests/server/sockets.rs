//! Addresses, sockets of the program's, and what the kernel does for us.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use dv_dtls::{Error, ServerConfig};

use crate::clients::{Client, echo, running};
use crate::contexts;

/// The clients' sockets are connected: an answer from another address would not reach them.
/// <https://github.com/openthread/openthread/pull/8168>, <https://github.com/openthread/ot-br-posix/pull/60>,
/// <https://github.com/zephyrproject-rtos/zephyr/pull/119862>: it was whatever address the route had.
#[test]
fn answers_leave_from_the_address_that_was_spoken_to() {
    let (server, _told) = echo(ServerConfig { workers: 2, ..ServerConfig::default() });
    let port = server.bind("[::]:0").unwrap().port();
    server.start().unwrap();
    let context = contexts::client();
    for ip in ["127.0.0.1", "127.0.0.2", "::1"] {
        let address = SocketAddr::new(ip.parse().unwrap(), port);
        for _ in 0..5 {
            assert_eq!(Client::connect(&context, address).ask(ip.as_bytes()), ip.as_bytes(), "{address}");
        }
    }
}

#[test]
fn a_server_has_several_addresses() {
    let (server, _told) = echo(ServerConfig { workers: 2, ..ServerConfig::default() });
    let all: Vec<SocketAddr> = ["0.0.0.0:0", "[::1]:0"].map(|address| server.bind(address).unwrap()).into();
    server.start().unwrap();
    let context = contexts::client();
    for address in [SocketAddr::from(([127, 0, 0, 3], all[0].port())), all[1]] {
        for _ in 0..5 {
            assert_eq!(Client::connect(&context, address).ask(b"hello"), b"hello");
        }
    }
}

#[test]
fn both_families_can_be_bound_one_by_one() {
    let (server, _told) = echo(ServerConfig::default());
    let v4 = server.bind("0.0.0.0:0").unwrap();
    let v6 = server.bind(("::", v4.port())).unwrap();
    assert_eq!(v4.port(), v6.port());
}

#[test]
fn an_address_that_somebody_has_is_refused() {
    let (first, address, _told) = running(ServerConfig { workers: 2, ..ServerConfig::default() });
    let (second, _told) = echo(ServerConfig { workers: 2, ..ServerConfig::default() });
    assert!(matches!(second.bind(address), Err(Error::Io(why)) if why.contains(&address.to_string())));
    assert!(matches!(second.start(), Err(Error::Invalid(_))), "bound to no address");
    assert!(matches!(first.bind("127.0.0.1:0"), Err(Error::Invalid(_))), "it runs");
    let other = second.bind("127.0.0.1:0").unwrap();
    assert!(matches!(second.bind("127.0.0.1:0"), Err(Error::Invalid(_))), "{other} is another port of that address");
}

/// An answer's port follows from its address, so there is one for each.
#[test]
fn a_wildcard_has_all_addresses_of_its_family() {
    for (first, second) in [("0.0.0.0:0", "127.0.0.1:0"), ("127.0.0.1:0", "0.0.0.0:0"), ("[::1]:0", "[::]:0")] {
        let (server, _told) = echo(ServerConfig::default());
        server.bind(first).unwrap();
        assert!(matches!(server.bind(second), Err(Error::Invalid(_))), "{second} beside {first}");
        let socket = UdpSocket::bind(second).unwrap();
        assert!(matches!(server.bind_socket(socket), Err(Error::Invalid(_))), "{second} beside {first}");
    }
}

#[test]
fn a_socket_can_be_handed_in() {
    let (server, _told) = echo(ServerConfig { workers: 2, ..ServerConfig::default() });
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    assert_eq!(server.bind_socket(socket), Ok(address));
    let stream = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(matches!(server.bind_socket(stream), Err(Error::Io(_))));
    // It would hear nobody but its peer.
    let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
    connected.connect(address).unwrap();
    assert!(matches!(server.bind_socket(connected), Err(Error::Io(_))));
    server.start().unwrap();
    let context = contexts::client();
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(&context, address)).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask(b"hello"), b"hello"));
}

/// Messages of a burst, and how many [`bursts`] there are.
pub const BURST: usize = 32;
const BURSTS: usize = 21;

/// Sends messages of one length with one system call. Gives how many were answered with the same bytes, in their order. Then
/// does so again and again, and gives how many answers the longest train has that arrives at a socket with UDP_GRO: that is
/// what left as one. A worker that wakes up soon may find the beginning of a burst alone, but not always.
pub fn bursts(mut client: Client) -> (usize, usize) {
    let messages: Vec<Vec<u8>> = (0..BURST).map(|number| vec![number as u8; 100]).collect();
    client.send_burst(&messages);
    let answered = messages.iter().filter(|message| client.message() == **message).count();

    let one: libc::c_int = 1;
    let (fd, len) = (client.socket.as_raw_fd(), size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the pointer and the length describe `one`.
    assert_eq!(unsafe { libc::setsockopt(fd, libc::SOL_UDP, libc::UDP_GRO, (&raw const one).cast(), len) }, 0);
    let (mut train, mut longest) = ([0; 1 << 16], 0);
    client.socket.set_read_timeout(Some(crate::clients::PATIENCE)).unwrap();
    let record = 13 + 8 + 100 + 16;
    for _ in 1..BURSTS {
        client.send_burst(&messages);
        let mut answers = 0;
        while answers < BURST {
            let arrived = client.socket.recv(&mut train).unwrap() / record;
            answers += arrived;
            longest = longest.max(arrived);
        }
    }
    (answered, longest)
}

#[test]
fn offload_changes_no_byte() {
    let context = contexts::client();
    for offload in [true, false] {
        let (server, address, _told) = running(ServerConfig { offload, ..ServerConfig::default() });
        assert_eq!(bursts(Client::connect(&context, address)), (BURST, if offload { BURST } else { 1 }));
        assert_eq!(server.stats().endpoints.messages_in, (BURSTS * BURST) as u64);
    }
}
