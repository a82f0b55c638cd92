//! Datagrams that somebody could send who can write a client's address on them, but holds none of its keys.

use std::str::FromStr;

use crate::client::{Profile, Timer, client_hello};
use crate::random::Random;

/// A kind of forgery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Random bytes, and records with random content.
    Junk,
    /// Plaintext handshake records with random content.
    Handshake,
    /// Alerts in clear.
    Alert,
    /// The same before and behind a ClientHello in one datagram.
    AlertGlued,
    /// ClientHellos without a cookie, new ones and the connection's own.
    Hello,
    /// The connection's own ClientHello with its cookie, as it was and altered.
    HelloStaleCookie,
    /// ChangeCipherSpec, alone and with a Finished that is none.
    Ccs,
    /// Records of other epochs and far sequence numbers.
    EpochJump,
    /// Records whose length is not what they say.
    Truncate,
    /// Everything that the client has sent, again.
    Replay,
}

impl Mode {
    /// All of them, with their names on the command line.
    pub const ALL: [(&str, Mode); 10] = [
        ("junk", Mode::Junk),
        ("handshake", Mode::Handshake),
        ("alert", Mode::Alert),
        ("alert-glued", Mode::AlertGlued),
        ("hello", Mode::Hello),
        ("hello-stale-cookie", Mode::HelloStaleCookie),
        ("ccs", Mode::Ccs),
        ("epoch-jump", Mode::EpochJump),
        ("truncate", Mode::Truncate),
        ("replay", Mode::Replay),
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, mode)| *mode == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = Self::ALL.map(|(name, _)| name);
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, mode)| *mode).ok_or_else(|| format!("one of {}", names.join(", ")))
    }
}

/// The record header, and what stands in a ClientHello behind it and the handshake header.
pub const RECORD_HEADER: usize = 13;
const HELLO_RANDOM: std::ops::Range<usize> = 27..59;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// Makes forgeries of one kind.
pub struct Forgery {
    mode: Mode,
    hello: Vec<u8>,
    seen: Vec<Vec<u8>>,
}

impl Forgery {
    /// Forgeries by somebody who has seen nothing of the connection yet.
    pub fn new(mode: Mode) -> Result<Self, String> {
        Ok(Forgery { mode, hello: client_hello(&Profile::new(None, Timer::Openssl)?)?, seen: Vec::new() })
    }

    /// Shows the forger a datagram of the client. He remembers the beginning and what came last.
    pub fn see(&mut self, datagram: &[u8]) {
        const REMEMBERED: usize = 64;
        if self.seen.len() == REMEMBERED {
            self.seen.remove(REMEMBERED / 2);
        }
        self.seen.push(datagram.to_vec());
    }

    /// One forged datagram.
    pub fn datagram(&self, random: &mut Random) -> Vec<u8> {
        match self.mode {
            Mode::Junk => junk(random),
            Mode::Handshake => {
                let body = random_body(random, 300);
                record(HANDSHAKE, 0, number(random), &body)
            }
            Mode::Alert => alert(random),
            Mode::AlertGlued => {
                let (hello, alert) = (self.hello_again(random), alert(random));
                if random.chance(0.5) { [hello, alert].concat() } else { [alert, hello].concat() }
            }
            Mode::Hello => self.hello_again(random),
            Mode::HelloStaleCookie => self.hello_with_cookie(random),
            Mode::Ccs => {
                let epoch = random.below(2) as u16;
                let ccs = record(CHANGE_CIPHER_SPEC, epoch, number(random), &[1]);
                if random.chance(0.5) {
                    return ccs;
                }
                [ccs, record(HANDSHAKE, epoch + 1, number(random), &random.bytes(40))].concat()
            }
            Mode::EpochJump => {
                let epoch = [0, 1, 2, 3, u16::MAX, random.draw() as u16][random.below(6)];
                let kind = CHANGE_CIPHER_SPEC + random.below(4) as u8;
                let body = random_body(random, 200);
                record(kind, epoch, number(random), &body)
            }
            Mode::Truncate => self.mutilated(random),
            Mode::Replay => self.seen_at(random.below(self.seen.len().max(1))),
        }
    }

    fn seen_at(&self, at: usize) -> Vec<u8> {
        self.seen.get(at).unwrap_or(&self.hello).clone()
    }

    /// A ClientHello without a cookie: the client's first, or another with a random of its own.
    fn hello_again(&self, random: &mut Random) -> Vec<u8> {
        if random.chance(0.25) {
            return self.seen_at(0);
        }
        let mut hello = self.hello.clone();
        renew(&mut hello, random);
        hello
    }

    /// The client's second ClientHello, which carries the cookie: as it was, or with one thing changed.
    fn hello_with_cookie(&self, random: &mut Random) -> Vec<u8> {
        let mut hello = self.seen_at(1);
        let cookie = HELLO_RANDOM.end + 2;
        match random.below(5) {
            0 => {}
            1 => renew(&mut hello, random),
            2 => hello[cookie + random.below(8)] ^= 1 << random.below(8),
            // Another record sequence number, and another message number.
            3 => random.fill(&mut hello[5..11]),
            _ => hello[18] = random.draw() as u8,
        }
        hello
    }

    /// The last record that the client sent, with a length that is not its own.
    fn mutilated(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.seen_at(self.seen.len().saturating_sub(1));
        if random.chance(0.5) {
            // A number that no replay window has seen: the length alone is to be what is wrong.
            let next = u64::from_be_bytes(std::array::from_fn(|i| bytes[3 + i])) + 1 + random.below(40) as u64;
            bytes[3..11].copy_from_slice(&next.to_be_bytes());
        }
        let length = bytes.len() - RECORD_HEADER;
        let said = match random.below(4) {
            0 => {
                bytes.truncate(random.below(bytes.len()));
                return bytes;
            }
            1 => random.below(length + 1),
            2 => length + 1 + random.below(100),
            _ => [0, 1, 7, 8, 0x4000, 0x4841, 0xffff][random.below(7)],
        };
        bytes[11..13].copy_from_slice(&(said as u16).to_be_bytes());
        bytes
    }
}

/// Gives a ClientHello another random.
pub fn renew(hello: &mut [u8], random: &mut Random) {
    random.fill(&mut hello[HELLO_RANDOM]);
}

fn junk(random: &mut Random) -> Vec<u8> {
    let one = |random: &mut Random| {
        let kind = [CHANGE_CIPHER_SPEC, APPLICATION_DATA, 24, 25, random.draw() as u8][random.below(5)];
        let epoch = random.below(2) as u16;
        let body = random_body(random, 400);
        // Handshake records in clear are a mode of their own.
        record(if kind == HANDSHAKE { APPLICATION_DATA } else { kind }, epoch, number(random), &body)
    };
    match random.below(3) {
        0 => random_body(random, 1400),
        1 => one(random),
        _ => (0..1 + random.below(3)).flat_map(|_| one(random)).collect(),
    }
}

fn alert(random: &mut Random) -> Vec<u8> {
    let (level, description) = (1 + random.below(2) as u8, random.below(121) as u8);
    // Mostly what ends a connection: close_notify, handshake_failure, no_renegotiation, internal_error.
    let description = [0, 40, 100, 80, description][random.below(5)];
    let epoch = random.chance(0.25) as u16;
    record(ALERT, epoch, number(random), &[level, description])
}

/// Sequence numbers such as a client could have: small ones mostly, or any.
fn number(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => random.draw(),
        1 => u64::MAX,
        _ => random.below(20) as u64,
    }
}

fn random_body(random: &mut Random, at_most: usize) -> Vec<u8> {
    let len = random.below(at_most + 1);
    random.bytes(len)
}

/// One record; of `number` the lower 48 bits.
fn record(kind: u8, epoch: u16, number: u64, body: &[u8]) -> Vec<u8> {
    const DTLS_1_2: [u8; 2] = [0xfe, 0xfd];
    let mut record = vec![kind, DTLS_1_2[0], DTLS_1_2[1]];
    record.extend(epoch.to_be_bytes());
    record.extend(&number.to_be_bytes()[2..]);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_of_openssl_is_where_it_is_expected() {
        let mut hello = Forgery::new(Mode::Hello).unwrap().hello;
        assert_eq!((hello[0], hello[13]), (HANDSHAKE, 1));
        assert_eq!(u16::from_be_bytes([hello[11], hello[12]]) as usize + RECORD_HEADER, hello.len());
        assert_eq!(hello[25..27], [0xfe, 0xfd], "client_version stands before the random");
        assert_eq!(hello[59..61], [0, 0], "no session id and no cookie");
        let before = hello.clone();
        renew(&mut hello, &mut Random::new(1));
        assert_eq!((&before[..27], &before[59..]), (&hello[..27], &hello[59..]));
        assert_ne!(before[HELLO_RANDOM], hello[HELLO_RANDOM]);
    }

    #[test]
    fn every_mode_forges_from_nothing_and_by_seed() {
        for (name, mode) in Mode::ALL {
            assert_eq!(name.parse(), Ok(mode));
            assert_eq!(mode.name(), name);
            let forgery = Forgery::new(mode).unwrap();
            for seed in 0..2000 {
                let datagram = forgery.datagram(&mut Random::new(seed));
                assert_eq!(datagram, forgery.datagram(&mut Random::new(seed)));
                assert!(datagram.len() <= 1500, "{name}: {}", datagram.len());
            }
        }
        assert!("nonsense".parse::<Mode>().unwrap_err().contains("epoch-jump"));
    }

    #[test]
    fn records_are_laid_out_as_on_the_wire() {
        assert_eq!(
            record(ALERT, 0x0102, 0x0a0b_0c0d_0e0f_1011, &[2, 40]),
            [21, 0xfe, 0xfd, 1, 2, 0x0c, 0x0d, 0x0e, 0x0f, 0x10, 0x11, 0, 2, 2, 40]
        );
    }

    #[test]
    fn a_replay_is_what_was_seen() {
        let mut forgery = Forgery::new(Mode::Replay).unwrap();
        (0..200u8).for_each(|n| forgery.see(&[n; 20]));
        let mut random = Random::new(3);
        let drawn: Vec<Vec<u8>> = (0..2000).map(|_| forgery.datagram(&mut random)).collect();
        for wanted in [0, 1, 31, 199u8] {
            assert!(drawn.contains(&vec![wanted; 20]), "{wanted}");
        }
    }
}
