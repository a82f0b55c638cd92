//! Which socket of a group takes a datagram, decided in the kernel before it is queued.
//!
//! A group (SO_REUSEPORT) has a socket for each worker, and behind those another one for each worker that takes what begins
//! with 22: the records of handshakes in clear, above all the hellos of strangers. So a flood of them fills buffers of its
//! own. The worker follows from the peer's address and port: all that a peer sends reaches one and the same worker.

use libc::sock_filter;

/// The first byte of a record that belongs to a handshake (RFC 5246 A.1).
pub const HANDSHAKE: u8 = 22;

/// The program for a group of two sockets for each of `workers`. `seed` keeps others from choosing the worker that they
/// load by choosing their ports.
pub fn program(workers: u32, seed: u32) -> Vec<sock_filter> {
    let mut program = Program::default();
    program.put(LOAD_BYTE, PAYLOAD);
    program.put(KEEP, FIRST_BYTE);

    program.put(LOAD_BYTE, NETWORK);
    program.put(SHIFT_RIGHT, 4);
    let is_v6 = program.jump_if_equal(6);
    program.put(LOAD_WORD, NETWORK + 12);
    program.put(KEEP, ADDRESS);
    // The length of an IPv4 header with its options; the port stands right behind it.
    program.put(LOAD_IHL_TO_X, NETWORK);
    program.put(LOAD_HALF_AT_X, NETWORK);
    let to_mix = program.jump();

    program.land(is_v6);
    program.put(LOAD_WORD, NETWORK + 8);
    for word in [12, 16, 20] {
        program.put(MULTIPLY, ODD[0]);
        program.put(TO_X, 0);
        program.put(LOAD_WORD, NETWORK + word);
        program.put(XOR_X, 0);
    }
    program.put(KEEP, ADDRESS);
    program.put(LOAD_HALF, NETWORK + 40);

    program.land(to_mix);
    program.put(XOR, seed);
    program.put(MULTIPLY, ODD[1]);
    program.put(RECALL_TO_X, ADDRESS);
    program.put(XOR_X, 0);
    for odd in [ODD[2], ODD[0]] {
        program.put(TO_X, 0);
        program.put(SHIFT_RIGHT, 15);
        program.put(XOR_X, 0);
        program.put(MULTIPLY, odd);
    }
    program.put(SHIFT_RIGHT, 8);
    program.put(MODULO, workers);
    program.put(TO_X, 0);

    program.put(RECALL, FIRST_BYTE);
    let is_handshake = program.jump_if_equal(HANDSHAKE.into());
    program.put(X_TO_A, 0);
    program.put(RETURN_A, 0);
    program.land(is_handshake);
    program.put(X_TO_A, 0);
    program.put(ADD, workers);
    program.put(RETURN_A, 0);
    program.0
}

/// Where the kernel shows the UDP payload, and where the IP header (SKF_NET_OFF).
const PAYLOAD: u32 = 0;
const NETWORK: u32 = -0x10_0000_i32 as u32;

/// Words of the program's memory.
const FIRST_BYTE: u32 = 0;
const ADDRESS: u32 = 1;

/// Multipliers that spread what they are given over the higher bits.
const ODD: [u32; 3] = [0x9E37_79B1, 0x85EB_CA77, 0xC2B2_AE3D];

const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LOAD_HALF_AT_X: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
const LOAD_IHL_TO_X: u32 = libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH;
const KEEP: u32 = libc::BPF_ST;
const RECALL: u32 = libc::BPF_LD | libc::BPF_MEM;
const RECALL_TO_X: u32 = libc::BPF_LDX | libc::BPF_MEM;
const TO_X: u32 = libc::BPF_MISC | libc::BPF_TAX;
const X_TO_A: u32 = libc::BPF_MISC | libc::BPF_TXA;
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
struct Jump(usize);

impl Program {
    fn put(&mut self, code: u32, k: u32) {
        self.0.push(sock_filter { code: code as u16, jt: 0, jf: 0, k });
    }

    fn jump_if_equal(&mut self, k: u32) -> Jump {
        self.put(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k);
        Jump(self.0.len() - 1)
    }

    fn jump(&mut self) -> Jump {
        self.put(libc::BPF_JMP | libc::BPF_JA, 0);
        Jump(self.0.len() - 1)
    }

    /// Lets `jump` end before the next instruction.
    fn land(&mut self, Jump(from): Jump) {
        let distance = (self.0.len() - from - 1) as u32;
        let jump = &mut self.0[from];
        match u32::from(jump.code) & libc::BPF_JEQ {
            0 => jump.k = distance,
            _ => jump.jt = distance as u8,
        }
    }
}
