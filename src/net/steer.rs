//! Which socket of a group takes a datagram, decided in the kernel before it is queued.
//!
//! A group (SO_REUSEPORT) has a socket of each class for each worker. What begins with 22 belongs to a handshake, and a
//! hello without a cookie to nobody yet: a flood of those fills buffers of its own, and takes no place from messages, nor
//! from handshakes of peers that have shown where they are. The worker follows from the peer's address and port: all that a
//! peer sends reaches one and the same worker. What begins with a connection ID of ours says itself which worker that is,
//! wherever the peer may be now.

use std::net::{IpAddr, SocketAddr};

use libc::sock_filter;

use crate::wire::handshake::{self, message_type::CLIENT_HELLO};
use crate::wire::record::{self, content_type::HANDSHAKE, content_type::TLS12_CID};

/// Classes of datagrams. Their sockets stand in the group in this order: those of all workers for messages, then those for
/// handshakes, then those for hellos without a cookie.
pub const CLASSES: usize = 3;

/// Where a worker's number stands in a datagram that begins with a connection ID of ours, and among how many.
#[derive(Clone, Copy, Debug)]
pub struct Owners {
    /// In the connection ID.
    pub at: usize,
    pub workers: usize,
}

impl Owners {
    /// The worker whose session the first record of the datagram belongs to, where that has an ID.
    pub fn of(&self, datagram: &[u8]) -> Option<usize> {
        datagram.get(CID as usize..).filter(|_| datagram[0] == TLS12_CID).and_then(|from_id| self.of_id(from_id))
    }

    /// The worker whose session has this ID, or one that begins so.
    pub fn of_id(&self, id: &[u8]) -> Option<usize> {
        id.get(self.at).map(|number| usize::from(*number) % self.workers)
    }
}

/// How a group with a socket of each class for each worker is steered.
#[derive(Clone, Copy, Debug)]
pub struct Steering {
    /// How many workers there are.
    pub workers: u32,
    /// Keeps others from choosing the worker that they load by choosing their ports.
    pub seed: u32,
    /// Sessions are known by connection IDs.
    pub owners: Option<Owners>,
}

impl Steering {
    /// The program for the kernel.
    pub fn program(self) -> Vec<sock_filter> {
        let mut program = Program::default();
        if let Some(owners) = self.owners {
            program.end_at_owner(owners);
        }
        program.load_peer();
        program.choose_worker(self.workers, self.seed);
        program.end_at_class(self.workers);
        program.0
    }

    /// The worker that it chooses for a peer.
    pub fn worker_of(self, peer: SocketAddr) -> usize {
        let address = match peer.ip().to_canonical() {
            IpAddr::V4(v4) => v4.to_bits(),
            IpAddr::V6(v6) => {
                let words = [96, 64, 32, 0].map(|shift| (v6.to_bits() >> shift) as u32);
                words.into_iter().reduce(|mixed, word| mixed.wrapping_mul(ODD[0]) ^ word).unwrap_or_default()
            }
        };
        let mut mixed = (u32::from(peer.port()) ^ self.seed).wrapping_mul(ODD[1]) ^ address;
        for odd in [ODD[2], ODD[0]] {
            mixed = (mixed ^ mixed >> 15).wrapping_mul(odd);
        }
        ((mixed >> 8) % self.workers) as usize
    }
}

/// Where things stand in a datagram that begins with a ClientHello (RFC 6347 4.1 and 4.2): behind the headers of record and
/// message, version and random.
const EPOCH: u32 = 3;
const MESSAGE_TYPE: u32 = record::HEADER_LEN as u32;
const SESSION_ID_LEN: u32 = MESSAGE_TYPE + handshake::HEADER_LEN as u32 + 2 + 32;

/// Where the connection ID stands in a record that has one (RFC 9146 4).
const CID: u32 = 11;

/// Where the kernel shows the UDP payload, and where the IP header (SKF_NET_OFF).
const PAYLOAD: u32 = 0;
const NETWORK: u32 = -0x10_0000_i32 as u32;

/// Words of the program's memory.
const ADDRESS: u32 = 0;
const WORKER: u32 = 1;

/// Multipliers that spread what they are given over the higher bits.
const ODD: [u32; 3] = [0x9E37_79B1, 0x85EB_CA77, 0xC2B2_AE3D];

const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LOAD_LEN: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_LEN;
const LOAD_BYTE_AT_X: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_IND;
const LOAD_HALF_AT_X: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
const LOAD_IHL_TO_X: u32 = libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH;
const KEEP: u32 = libc::BPF_ST;
const RECALL: u32 = libc::BPF_LD | libc::BPF_MEM;
const RECALL_TO_X: u32 = libc::BPF_LDX | libc::BPF_MEM;
const TO_X: u32 = libc::BPF_MISC | libc::BPF_TAX;
const JUMP_IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const JUMP_IF_ABOVE: u32 = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K;
const JUMP_IF_ABOVE_X: u32 = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_X;
const JUMP: u32 = libc::BPF_JMP | libc::BPF_JA;
const ADD: u32 = libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K;
const MULTIPLY: u32 = libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K;
const MODULO: u32 = libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K;
const SHIFT_RIGHT: u32 = libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K;
const XOR: u32 = libc::BPF_ALU | libc::BPF_XOR | libc::BPF_K;
const XOR_X: u32 = libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X;
const RETURN_A: u32 = libc::BPF_RET | libc::BPF_A;

#[derive(Default)]
struct Program(Vec<sock_filter>);

/// A jump whose target is not known yet.
enum Jump {
    Always(usize),
    If(usize),
    Unless(usize),
}

impl Program {
    /// What begins with a connection ID of ours goes to the worker that it names.
    fn end_at_owner(&mut self, Owners { at, workers }: Owners) {
        let at = CID + at as u32;
        self.put(LOAD_LEN, 0);
        let too_short = self.jump_unless(JUMP_IF_ABOVE, at);
        self.put(LOAD_BYTE, PAYLOAD);
        let no_id = self.jump_unless(JUMP_IF_EQUAL, TLS12_CID.into());
        self.put(LOAD_BYTE, PAYLOAD + at);
        self.put(MODULO, workers as u32);
        self.put(RETURN_A, 0);
        self.land(too_short);
        self.land(no_id);
    }

    /// Keeps the peer's address, an IPv6 one mixed down to a word, and loads its port.
    fn load_peer(&mut self) {
        self.put(LOAD_BYTE, NETWORK);
        self.put(SHIFT_RIGHT, 4);
        let is_v6 = self.jump_if_equal(6);
        self.put(LOAD_WORD, NETWORK + 12);
        self.put(KEEP, ADDRESS);
        // The length of an IPv4 header with its options; the port stands right behind it.
        self.put(LOAD_IHL_TO_X, NETWORK);
        self.put(LOAD_HALF_AT_X, NETWORK);
        let loaded = self.jump();

        self.land(is_v6);
        self.put(LOAD_WORD, NETWORK + 8);
        for word in [12, 16, 20] {
            self.put(MULTIPLY, ODD[0]);
            self.put(TO_X, 0);
            self.put(LOAD_WORD, NETWORK + word);
            self.put(XOR_X, 0);
        }
        self.put(KEEP, ADDRESS);
        self.put(LOAD_HALF, NETWORK + 40);
        self.land(loaded);
    }

    /// Keeps the number of the worker that follows from address and port, as [`Steering::worker_of`] computes it.
    fn choose_worker(&mut self, workers: u32, seed: u32) {
        self.put(XOR, seed);
        self.put(MULTIPLY, ODD[1]);
        self.put(RECALL_TO_X, ADDRESS);
        self.put(XOR_X, 0);
        for odd in [ODD[2], ODD[0]] {
            self.put(TO_X, 0);
            self.put(SHIFT_RIGHT, 15);
            self.put(XOR_X, 0);
            self.put(MULTIPLY, odd);
        }
        self.put(SHIFT_RIGHT, 8);
        self.put(MODULO, workers);
        self.put(KEEP, WORKER);
    }

    /// The worker's socket for messages, for handshakes, or for hellos without a cookie.
    fn end_at_class(&mut self, workers: u32) {
        self.put(LOAD_BYTE, PAYLOAD);
        let is_handshake = self.jump_if_equal(HANDSHAKE.into());
        self.put(RECALL, WORKER);
        self.put(RETURN_A, 0);

        self.land(is_handshake);
        // A ClientHello of epoch 0 that says how long its cookie is: nothing is read beyond the datagram's end.
        let mut no_hello = Vec::new();
        self.put(LOAD_LEN, 0);
        no_hello.push(self.jump_unless(JUMP_IF_ABOVE, SESSION_ID_LEN));
        self.put(LOAD_HALF, PAYLOAD + EPOCH);
        no_hello.push(self.jump_unless(JUMP_IF_EQUAL, 0));
        self.put(LOAD_BYTE, PAYLOAD + MESSAGE_TYPE);
        no_hello.push(self.jump_unless(JUMP_IF_EQUAL, CLIENT_HELLO.into()));
        self.put(LOAD_BYTE, PAYLOAD + SESSION_ID_LEN);
        self.put(ADD, SESSION_ID_LEN + 1);
        self.put(TO_X, 0);
        self.put(LOAD_LEN, 0);
        no_hello.push(self.jump_unless(JUMP_IF_ABOVE_X, 0));
        self.put(LOAD_BYTE_AT_X, PAYLOAD);
        no_hello.push(self.jump_unless(JUMP_IF_EQUAL, 0));
        self.put(RECALL, WORKER);
        self.put(ADD, 2 * workers);
        self.put(RETURN_A, 0);

        no_hello.into_iter().for_each(|jump| self.land(jump));
        self.put(RECALL, WORKER);
        self.put(ADD, workers);
        self.put(RETURN_A, 0);
    }

    fn put(&mut self, code: u32, k: u32) {
        self.0.push(sock_filter { code: code as u16, jt: 0, jf: 0, k });
    }

    fn jump_if_equal(&mut self, k: u32) -> Jump {
        self.put(JUMP_IF_EQUAL, k);
        Jump::If(self.0.len() - 1)
    }

    fn jump_unless(&mut self, condition: u32, k: u32) -> Jump {
        self.put(condition, k);
        Jump::Unless(self.0.len() - 1)
    }

    fn jump(&mut self) -> Jump {
        self.put(JUMP, 0);
        Jump::Always(self.0.len() - 1)
    }

    /// Lets `jump` end before the next instruction.
    fn land(&mut self, jump: Jump) {
        let (Jump::Always(from) | Jump::If(from) | Jump::Unless(from)) = jump;
        let over = u8::try_from(self.0.len() - from - 1).expect("the program is short");
        match jump {
            Jump::Always(_) => self.0[from].k = over.into(),
            Jump::If(_) => self.0[from].jt = over,
            Jump::Unless(_) => self.0[from].jf = over,
        }
    }
}
