//! Two ends of a connection, and somebody between them who holds back, repeats, bends, cuts and glues their records. Opened
//! is what was sealed, once, and as long as it is not too old, and nothing else.

use std::hash::{DefaultHasher, Hash, Hasher};

use dv_dtls::engine::records::{Digest, Records, Secrets, Suite, Used};
use dv_dtls::wire::record::{HEADER_LEN, Record};

/// How far behind the newest record one may come: the width of the replay window.
const WINDOW: u64 = 128;
/// Things done for one input.
const STEPS_MAX: usize = 500;
/// Records that are kept to be sent again.
const KEPT_MAX: usize = 64;

const SUITES: [Suite; 3] = [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::Chacha20Poly1305];

/// One end, and what it has to do by a model that has a note of every record.
struct End {
    records: Records,
    /// What it has sealed, and what was in it.
    sealed: Vec<(Vec<u8>, Vec<u8>)>,
    /// The numbers of what it has opened.
    opened: Vec<u64>,
    last_nonce: Option<Vec<u8>>,
    /// Bytes of the connection IDs, those of both sides.
    cid_len: usize,
}

impl End {
    fn new(suite: Suite, server: bool, used: Used, cid_len: usize, padding: u16, secrets: &Secrets) -> End {
        let opened = used.opened.into_iter().collect();
        let mut records = Records::with_cid(suite, secrets, server, vec![9; cid_len].into(), padding);
        records.go_on_from(used);
        End { records, sealed: Vec::new(), opened, last_nonce: None, cid_len }
    }

    fn seal(&mut self, content_type: u8, content: &[u8], avoided: &[u64]) {
        let mut out = vec![0; self.records.sealed_len(content.len())];
        let Some(len) = self.records.seal(content_type, content, &mut out) else { return };
        assert_eq!(len, out.len());
        let number = &out[3..11];
        assert!(self.last_nonce.as_deref().is_none_or(|last| last < number), "numbers only rise");
        assert!(!avoided.contains(&u64::from_be_bytes(number.try_into().expect("eight bytes"))));
        self.last_nonce = Some(number.to_vec());
        if self.sealed.len() == KEPT_MAX {
            self.sealed.remove(0);
        }
        self.sealed.push((out, content.to_vec()));
    }

    fn open(&mut self, bytes: &[u8], from: &[(Vec<u8>, Vec<u8>)]) {
        let Some((record, _)) = Record::parse_with(bytes, self.cid_len) else { return };
        let highest = self.opened.iter().max();
        let is_new = !self.opened.contains(&record.sequence)
            && highest.is_none_or(|highest| record.sequence + WINDOW > *highest);
        let expected = from.iter().find(|(sealed, _)| sealed == record.bytes).filter(|_| is_new);
        let mut out = vec![0; record.fragment().len()];
        let opened = self.records.open(&record, &mut out).map(|plain| &out[..plain.len]);
        assert_eq!(opened, expected.map(|(_, content)| &content[..]), "{record:?}");
        if expected.is_some() {
            self.opened.push(record.sequence);
        }
    }
}

/// Takes what is done from the input, one byte at a time; 0 behind its end.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u64 {
        (0..6).fold(0, |number, _| number << 8 | u64::from(self.next()))
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = usize::from(self.next()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes.to_vec()
    }
}

/// Others for each input. A fuzzer sees what is compared, and so learns records that one run has sealed; no other is to open
/// them.
fn secrets(input: &[u8]) -> Secrets {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let mut master = [1; 48];
    master[..8].copy_from_slice(&hasher.finish().to_be_bytes());
    Secrets { master, client_random: [2; 32], server_random: [3; 32], digest: Digest::Sha256 }
}

/// `input`: the suite and the connection IDs, what OpenSSL has used before, then what is done, step by step.
pub fn run(input: &[u8]) {
    let mut script = Script(input);
    let kind = script.next();
    let suite = SUITES[usize::from(kind) % SUITES.len()];
    let (cid_len, padding) = [(0, 0), (8, 0), (1, 16)][usize::from(kind) / SUITES.len() % 3];
    let next = 1 + script.number();
    let avoided: Vec<u64> = (0..script.next() % 4).map(|ahead| (1 << 48 | next) + 3 * u64::from(ahead)).collect();
    let avoided = if suite == Suite::Chacha20Poly1305 { Vec::new() } else { avoided };
    let used = Used { next, nonces: avoided.clone(), opened: Some(0) };
    let secrets = secrets(input);
    let mut ends = [false, true].map(|server| End::new(suite, server, used.clone(), cid_len, padding, &secrets));
    for _ in 0..STEPS_MAX {
        if script.0.is_empty() {
            return;
        }
        let step = script.next();
        let [one, other] = &mut ends;
        let (from, to) = if step & 1 == 0 { (one, other) } else { (other, one) };
        let place = |from: &End, at: u8| usize::from(at).checked_rem(from.sealed.len());
        match step >> 1 & 7 {
            0 | 1 => {
                let (content_type, content) = (20 + script.next() % 5, script.bytes());
                from.seal(content_type, &content, &avoided);
            }
            // As it is, from the newest to the oldest that is kept.
            2 | 3 => {
                if let Some(at) = place(from, script.next()) {
                    let bytes = from.sealed[from.sealed.len() - 1 - at].0.clone();
                    to.open(&bytes, &from.sealed);
                }
            }
            // Bent, cut or with something behind it, and its length put right.
            4 | 5 => {
                if let Some(at) = place(from, script.next()) {
                    let mut bytes = from.sealed[at].0.clone();
                    let (what, bits) = (script.next(), script.next());
                    match what & 3 {
                        0 => bytes.truncate(HEADER_LEN + usize::from(bits) % (bytes.len() - HEADER_LEN + 1)),
                        1 => bytes.extend(script.bytes()),
                        2 => bytes[5..11].copy_from_slice(&script.number().to_be_bytes()[2..]),
                        _ => {
                            let at = usize::from(script.next()) % bytes.len();
                            bytes[at] ^= bits;
                        }
                    }
                    let begin = HEADER_LEN + cid_len;
                    if let Some(len) = bytes.len().checked_sub(begin) {
                        bytes[begin - 2..begin].copy_from_slice(&(len as u16).to_be_bytes());
                    }
                    to.open(&bytes, &from.sealed);
                }
            }
            // Anything at all; and its own words.
            6 => {
                let (bytes, own) = (script.bytes(), script.next());
                to.open(&bytes, &from.sealed);
                if let Some(at) = place(from, own) {
                    let bytes = from.sealed[at].0.clone();
                    from.open(&bytes, &to.sealed);
                }
            }
            _ => from.records.rest(),
        }
    }
}
