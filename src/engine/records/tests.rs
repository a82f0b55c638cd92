use std::collections::HashSet;

use openssl::rand::rand_bytes;
use proptest::prelude::*;

use super::*;
use crate::wire::record::{content_type, records, set_sequence};

pub const SUITES: [Suite; 3] = [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::Chacha20Poly1305];

pub fn hex(text: &str) -> Vec<u8> {
    let text: String = text.split_whitespace().collect();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

pub fn secrets() -> Secrets {
    let mut secrets =
        Secrets { master: [0; 48], client_random: [0; 32], server_random: [1; 32], digest: Digest::Sha256 };
    rand_bytes(&mut secrets.master).unwrap();
    secrets
}

/// Both ends of a connection.
fn pair(suite: Suite) -> (Records, Records) {
    let secrets = secrets();
    let new = |server| Records::new(suite, &secrets, server, Used::default());
    (new(false), new(true))
}

pub fn seal(records: &mut Records, content_type: u8, content: &[u8]) -> Vec<u8> {
    try_seal(records, content_type, content).expect("its key is not used up")
}

fn try_seal(records: &mut Records, content_type: u8, content: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0; records.sealed_len(content.len())];
    let len = records.seal(content_type, content, &mut out)?;
    assert_eq!(len, out.len());
    Some(out)
}

fn open(records: &mut Records, bytes: &[u8]) -> Option<Vec<u8>> {
    open_with(records, bytes, 0).map(|(_, content)| content)
}

/// A record whose connection ID is so long; gives its true type, too.
pub fn open_with(records: &mut Records, bytes: &[u8], cid_len: usize) -> Option<(u8, Vec<u8>)> {
    let (record, _) = Record::parse_with(bytes, cid_len)?;
    let mut out = vec![0; record.fragment().len()];
    let Plain { content_type, len } = records.open(&record, &mut out)?;
    out.truncate(len);
    Some((content_type, out))
}

#[test]
fn both_directions_and_each_suite() {
    for suite in SUITES {
        let (mut client, mut server) = pair(suite);
        for len in [0, 1, 15, 16, 17, 1200, 1 << 14] {
            let message: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let record = seal(&mut client, content_type::APPLICATION_DATA, &message);
            assert_eq!(open(&mut client, &record), None, "its own record");
            client.rest();
            assert_eq!(open(&mut server, &record), Some(message.clone()));
            assert_eq!(open(&mut server, &record), None, "a replay");
            let record = seal(&mut server, content_type::APPLICATION_DATA, &message);
            server.rest();
            assert_eq!(open(&mut client, &record), Some(message));
        }
    }
}

/// Test cases 4 and 16 of "The Galois/Counter Mode of Operation" (McGrew, Viega) and that of RFC 8439 2.8.2: what the AEAD
/// gives with our keys, explicit nonces and places, with their additional data.
#[test]
fn published_vectors_of_the_aeads() {
    let gcm_text = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525\
                    b16aedf5aa0de657ba637b39";
    let gcm_aad = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
    let gcm_nonce = "cafebabefacedbaddecaf888";
    let sunscreen = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                      sunscreen would be it.";
    let cases = [
        (
            Suite::Aes128Gcm,
            "feffe9928665731c6d6a8f9467308308",
            gcm_nonce,
            gcm_aad,
            hex(gcm_text),
            "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa05\
             1ba30b396a0aac973d58e091 5bc94fbc3221a5db94fae95ae7121a47",
        ),
        (
            Suite::Aes256Gcm,
            "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
            gcm_nonce,
            gcm_aad,
            hex(gcm_text),
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838\
             c5f61e6393ba7a0abcc9f662 76fc6ece0f4e1768cddf8853bb2d551b",
        ),
        (
            Suite::Chacha20Poly1305,
            "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
            "070000004041424344454647",
            "50515253c0c1c2c3c4c5c6c7",
            sunscreen.to_vec(),
            "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b\
             1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc\
             3ff4def08e4b7a9de576d26586cec64b6116 1ae10b594f09e26a7e902ecbd0600691",
        ),
    ];
    for (suite, key, nonce, aad, mut text, sealed) in cases {
        let mut ours = Key::default();
        let (key, nonce) = (hex(key), hex(nonce));
        ours.bytes[..key.len()].copy_from_slice(&key);
        ours.iv[..4].copy_from_slice(&nonce[..4]);
        let eight = nonce[4..].try_into().unwrap();
        let tag = suite.expand(&ours.bytes).seal_in_place_separate_tag(
            ours.nonce(suite, eight),
            Aad::from(hex(aad)),
            &mut text,
        );
        text.extend_from_slice(tag.unwrap().as_ref());
        assert_eq!(text, hex(sealed), "{suite:?}");
    }
}

/// The nonces on the wire of a million records, and of what OpenSSL sealed before them with one that comes in their way.
#[test]
fn no_nonce_comes_twice() {
    let in_the_way: Vec<u64> = [2, 3, 5000, 999_999].map(number).to_vec();
    let used = Used { next: 2, nonces: [vec![7, number(1), u64::MAX], in_the_way.clone()].concat(), opened: None };
    let secrets = secrets();
    let mut ours = Records::new(Suite::Aes128Gcm, &secrets, true, used.clone());
    let mut peer = Records::new(Suite::Aes128Gcm, &secrets, false, Used::default());
    let mut seen: HashSet<u64> = used.nonces.iter().copied().collect();
    let mut last = number(1);
    for count in 0..1_000_000 {
        let sealed = seal(&mut ours, content_type::APPLICATION_DATA, &[0; 3]);
        let nonce = u64::from_be_bytes(*sealed[HEADER_LEN..].first_chunk().unwrap());
        assert_eq!(sealed[3..11], nonce.to_be_bytes(), "epoch and sequence number");
        assert!(nonce > last && seen.insert(nonce), "{nonce:x}");
        last = nonce;
        if count % 1000 == 0 {
            ours.rest();
            assert!(open(&mut peer, &sealed).is_some());
        }
    }
    assert_eq!(last, number(2 + 1_000_000 + in_the_way.len() as u64 - 1));
}

/// ChaCha20-Poly1305 has no explicit nonce, so what OpenSSL put at the beginning of its fragments is no nonce.
#[test]
fn only_explicit_nonces_are_stepped_over() {
    let used = Used { next: 1, nonces: vec![number(1), number(2)], opened: None };
    let mut ours = Records::new(Suite::Chacha20Poly1305, &secrets(), true, used);
    let sealed = seal(&mut ours, content_type::ALERT, &[1, 0]);
    assert_eq!(records(&sealed).next().unwrap().sequence, 1);
}

#[test]
fn sequence_numbers_come_to_an_end() {
    for suite in SUITES {
        let used = Used { next: SEQUENCE_MAX - KEPT_FOR_ALERTS, ..Used::default() };
        let mut ours = Records::new(suite, &secrets(), true, used);
        assert!(!ours.are_exhausted());
        seal(&mut ours, content_type::APPLICATION_DATA, b"the last one");
        assert!(ours.are_exhausted());
        seal(&mut ours, content_type::ALERT, &[1, 0]);
        ours.next = SEQUENCE_MAX;
        let last = seal(&mut ours, content_type::ALERT, &[1, 0]);
        assert_eq!(last[3..11], [0, 1, 255, 255, 255, 255, 255, 255]);
        assert_eq!(try_seal(&mut ours, content_type::ALERT, &[1, 0]), None);
        assert_eq!(ours.next, SEQUENCE_MAX + 1);
    }
}

#[test]
fn keys_are_not_used_beyond_their_limits() {
    let (mut ours, _) = pair(Suite::Aes128Gcm);
    // 2^24.5 records of 2^14 bytes.
    ours.sealed_blocks = (2_f64.powf(24.5) * 1024.0) as u64 - 2000;
    seal(&mut ours, content_type::APPLICATION_DATA, &[0; 1 << 14]);
    assert!(!ours.are_exhausted());
    seal(&mut ours, content_type::APPLICATION_DATA, &[0; 1 << 14]);
    assert!(ours.are_exhausted());

    let (mut ours, mut peer) = pair(Suite::Chacha20Poly1305);
    ours.sealed_blocks = ours.suite.blocks_max();
    assert!(!ours.are_exhausted());
    let mut forged = seal(&mut peer, content_type::APPLICATION_DATA, b"forged");
    forged[20] ^= 1;
    ours.failed = (1 << 36) - 1;
    for exhausted in [false, true] {
        assert_eq!(open(&mut ours, &forged), None);
        assert_eq!(ours.are_exhausted(), exhausted);
    }
}

#[test]
fn what_openssl_has_opened_is_a_replay() {
    let secrets = secrets();
    let mut client = Records::new(Suite::Aes128Gcm, &secrets, false, Used::default());
    let used = Used { opened: Some(0), ..Used::default() };
    let mut server = Records::new(Suite::Aes128Gcm, &secrets, true, used);
    let finished = seal(&mut client, content_type::HANDSHAKE, &[20]);
    assert_eq!(open(&mut server, &finished), None);
    let next = seal(&mut client, content_type::APPLICATION_DATA, b"next");
    assert_eq!(open(&mut server, &next), Some(b"next".to_vec()));
}

/// Numbers of other epochs are other numbers, which no window remembers.
#[test]
fn authentic_records_of_another_epoch_are_not_opened() {
    let (mut client, mut server) = pair(Suite::Aes128Gcm);
    for (epoch, opens) in [(0, false), (2, false), (EPOCH, true)] {
        let mut record = vec![0; client.sealed_len(1)];
        client.seal_as(By::Us, (epoch << 48).to_be_bytes(), content_type::ALERT, &[1], &mut record).unwrap();
        assert_eq!(open(&mut server, &record).is_some(), opens, "{epoch}");
    }
}

/// Bytes of a content (RFC 6347 4.1, RFC 5246 6.2.1).
#[test]
fn no_record_has_more_than_16384_bytes() {
    let (mut client, mut server) = pair(Suite::Aes128Gcm);
    for (len, opens) in [(1 << 14, true), ((1 << 14) + 1, false)] {
        let record = seal(&mut client, content_type::APPLICATION_DATA, &vec![7; len]);
        assert_eq!(open(&mut server, &record).is_some(), opens);
    }
}

/// What an attacker makes of a record.
#[derive(Clone, Debug)]
enum Mutation {
    Flip { at: usize, bits: u8 },
    Cut(usize),
    Append(Vec<u8>),
    Sequence(u64),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<usize>(), 1..=255_u8).prop_map(|(at, bits)| Mutation::Flip { at, bits }),
        any::<usize>().prop_map(Mutation::Cut),
        proptest::collection::vec(any::<u8>(), 1..40).prop_map(Mutation::Append),
        (0..1_u64 << 48).prop_map(Mutation::Sequence),
    ]
}

/// The length that the header says is put right, so that the AEAD alone is in the way.
fn mutate(record: &mut Vec<u8>, mutation: &Mutation) {
    match mutation {
        Mutation::Flip { at, bits } => {
            let at = at % record.len();
            record[at] ^= bits;
            if at == 11 || at == 12 {
                return;
            }
        }
        Mutation::Cut(at) => record.truncate(HEADER_LEN + at % (record.len() - HEADER_LEN).max(1)),
        Mutation::Append(bytes) => record.extend_from_slice(bytes),
        Mutation::Sequence(sequence) => set_sequence(record, *sequence),
    }
    let len = (record.len() - HEADER_LEN) as u16;
    record[11..HEADER_LEN].copy_from_slice(&len.to_be_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn a_mutated_record_never_opens(
        suite in proptest::sample::select(&SUITES[..]),
        message in proptest::collection::vec(any::<u8>(), 0..300),
        mutations in proptest::collection::vec(mutation(), 1..4),
    ) {
        let (mut client, mut server) = pair(suite);
        let record = seal(&mut client, content_type::APPLICATION_DATA, &message);
        let mut mutated = record.clone();
        mutations.iter().for_each(|mutation| mutate(&mut mutated, mutation));
        // Bytes behind a record are another record's matter.
        let same = Record::parse(&mutated).is_some_and(|(first, _)| first.bytes == record);
        prop_assert_eq!(open(&mut server, &mutated).is_some(), same);
        // Nothing of that has marked the number as seen.
        prop_assert_eq!(open(&mut server, &record).is_some(), !same);
    }
}

/// The expanded keys are by far the largest part of a session.
#[test]
fn at_rest_there_are_no_expanded_keys() {
    let (mut ours, mut peer) = pair(Suite::Aes128Gcm);
    let sealed = seal(&mut peer, content_type::APPLICATION_DATA, b"before");
    assert_eq!(open(&mut ours, &sealed).unwrap(), b"before");
    assert!(ours.expanded.is_some());
    ours.rest();
    assert!(ours.expanded.is_none());
    let sealed = seal(&mut peer, content_type::APPLICATION_DATA, b"after");
    assert_eq!(open(&mut ours, &sealed).unwrap(), b"after");
}
