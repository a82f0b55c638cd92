//! Peers whose address says more than IPv6: IPv4 ones at a socket for both, and link-local ones, who may have the same address
//! on two links. For those a proof makes links of its own, in a network that nobody else sees.

use std::ffi::CString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::process::Command;

use crate::Proof;
use crate::client::{Client, socket_at};
use crate::common::succeed;
use crate::door::{Door, Server, Setup};
use crate::hellos::{Answer, cookie, hello, put};

pub const PROOFS: &[Proof] = &[
    // The example's IPv6 socket is for IPv6 alone.
    Proof::new("mapped_peers", mapped).needs(|door| door.name != "example_server"),
    Proof::new("link_local_peers", link_local).needs(|_| links_can_be_made()),
];

/// What holds for peers of any kind. Both are somebody else, but not by the part of their address that is hashed or compared
/// first: `near` and `far` differ in what this kind of address has more.
fn hold(door: &Door, setup: &Setup, near: &Place, far: &Place, payload: usize) {
    let server = setup.clone().with("DV_MTU", 256).start(door);

    // Cookies.
    let (mine, hello) = (near.socket(0), hello(&[]));
    let good = hello.with_cookie(&cookie(&mine, near.server(&server), &hello));
    let port = mine.local_addr().expect("bound").port();
    assert!(matches!(put(&far.socket(port), far.server(&server), &good.datagram()), Answer::Cookie(_)));
    assert!(matches!(put(&near.socket(0), near.server(&server), &good.datagram()), Answer::Cookie(_)));
    assert_eq!(put(&mine, near.server(&server), &good.datagram()), Answer::ServerHello(0xfefd));
    drop(mine);

    // Connections, with the same port: two that do not get in each other's way, also when one of them restarts.
    let here = near.socket(0);
    let there = far.socket(here.local_addr().expect("bound").port());
    let connect = |place: &Place, socket: &UdpSocket| {
        Client::connect_from(socket.try_clone().expect("a descriptor"), place.server(&server))
    };
    let (mut first, mut other) = (connect(near, &here), connect(far, &there));
    first.ask(door, b"first");
    other.ask(door, b"other");
    let largest = first.wire().received.iter().map(Vec::len).max().expect("datagrams");
    assert!(payload - 20 < largest && largest <= payload, "{largest} bytes of payload in packets of 256");
    drop(first);
    let mut again = connect(near, &here);
    again.ask(door, b"restarted");
    other.ask(door, b"still here");
    again.ask(door, b"and here");
    again.close();
    other.ask(door, b"still here");

    // What one source may have: its own longest idle connection makes room, and nobody's elsewhere.
    let server = setup.clone().with("DV_MAX_CONNECTIONS_PER_SOURCE", 2).start(door);
    let come = |place: &Place| Client::connect_from(place.socket(0), place.server(&server));
    let mut elsewhere = come(far);
    elsewhere.ask(door, b"from elsewhere");
    let (mut first, mut second) = (come(near), come(near));
    first.ask(door, b"a message");
    first.ask(door, b"another");
    let mut third = come(near);
    third.ask(door, b"in its place");
    second.is_closed();
    server.says("1 idle connections closed: a limit of connections is reached");
    [elsewhere, first, third].iter_mut().for_each(|client| client.ask(door, b"still here"));
}

/// Where a client is.
struct Place {
    host: SocketAddr,
    /// The server's address, seen from there.
    server: SocketAddr,
}

impl Place {
    fn socket(&self, port: u16) -> UdpSocket {
        let mut at = self.host;
        at.set_port(port);
        UdpSocket::bind(at).expect("a port")
    }

    fn server(&self, server: &Server) -> SocketAddr {
        let mut at = self.server;
        at.set_port(server.address.port());
        at
    }
}

/// To a socket of IPv6, clients of IPv4 are all of one /64.
fn mapped(door: &Door) {
    let place = |host| Place { host: SocketAddr::new(host, 0), server: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) };
    let [near, far] = [[127, 0, 0, 1], [127, 0, 0, 2]].map(|host| place(IpAddr::from(host)));
    hold(door, &Setup::new().at(Ipv6Addr::UNSPECIFIED), &near, &far, 256 - 20 - 8);
    if door.echoes {
        return;
    }
    // One program, both kinds of socket: the same peer twice.
    let server = Setup::new().at(Ipv6Addr::UNSPECIFIED).start(door);
    let mut plain = Client::connect_from(socket_at([127, 0, 0, 3]), server.ipv4());
    let mut mapped = Client::connect_from(socket_at([127, 0, 0, 3]), near.server(&server));
    plain.ask(door, b"by IPv4");
    // The original main leaves room for an IPv4 address only, once it has seen one: this one is lost.
    mapped.send(b"lost");
    mapped.ask(door, b"by IPv6");
    plain.ask(door, b"by IPv4");
}

const SERVER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const CLIENT: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

/// Two links. On each the server has the same address, and a client too.
fn link_local(door: &Door) {
    in_own_network(|| {
        let [near, far] = ["a", "b"].map(|name| {
            let scope = link(name);
            let at = |host| SocketAddr::V6(SocketAddrV6::new(host, 0, 0, scope));
            Place { host: at(CLIENT), server: at(SERVER) }
        });
        hold(door, &Setup::new().at(Ipv6Addr::UNSPECIFIED), &near, &far, 256 - 40 - 8);
    });
}

/// Runs `body` on a thread that has left this machine's network, as have the processes that it starts.
fn in_own_network(body: impl FnOnce() + Send) {
    let inside = || {
        // SAFETY: a plain call.
        let left = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(left, 0, "unshare: {}", std::io::Error::last_os_error());
        ip("link set lo up");
        body();
    };
    let ended = std::thread::scope(|scope| scope.spawn(inside).join());
    ended.unwrap_or_else(|why| std::panic::resume_unwind(why));
}

/// A link to ourselves; gives the number of the client's end of it.
fn link(name: &str) -> u32 {
    ip(&format!("link add {name}0 type veth peer name {name}1"));
    for (end, host) in [(0, SERVER), (1, CLIENT)] {
        ip(&format!("link set {name}{end} addrgenmode none up"));
        ip(&format!("-6 addr add {host}/64 dev {name}{end} nodad"));
    }
    let name = CString::new(format!("{name}1")).expect("a name");
    // SAFETY: the name is a string of C's.
    unsafe { libc::if_nametoindex(name.as_ptr()) }
}

fn ip(arguments: &str) {
    succeed(Command::new("ip").args(arguments.split(' ')));
}

/// Whether this user can, on this machine; if not, a line says so.
fn links_can_be_made() -> bool {
    static CAN: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| {
        let tried = Command::new("unshare").args(["-n", "ip", "link", "add", "a0", "type", "veth"]).output();
        let can = tried.is_ok_and(|tried| tried.status.success());
        if !can {
            eprintln!("addresses::link_local_peers is skipped: it needs root, iproute2 and links of type veth");
        }
        can
    });
    *CAN
}
