use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::slice;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::seal::CHUNK_MAX;
use super::*;
use crate::engine::records::{Progress, Suite};

fn key(byte: u8) -> ExportKey {
    ExportKey::new([byte; 32])
}

/// A session of a server, with no more than it must have.
fn plain() -> Entry<'static> {
    Entry {
        server: true,
        is_resumed: false,
        extended_master_secret: true,
        suite: Suite::Aes128Gcm,
        cipher: [0xc0, 0x2b],
        srtp: 0,
        master: &[1; 48],
        client_random: &[2; 32],
        server_random: &[3; 32],
        progress: Progress { next: 7, window: (3, 5), ..Progress::default() },
        message_max: 1215,
        heard_ago: 4,
        used_ago: 5,
        user: 6,
        peer: "192.0.2.1:40000".parse().unwrap(),
        local: Some("192.0.2.2".parse().unwrap()),
        verify_result: 0,
        our_id: &[],
        peer_id: &[],
        alpn: None,
        server_name: None,
        psk_identity: None,
        certificate: None,
        resumption: None,
        checks: false,
        flight: None,
    }
}

fn written(entries: &[Entry<'_>], key: &ExportKey) -> Vec<u8> {
    let mut packed = Packed::default();
    entries.iter().for_each(|entry| assert!(packed.push(entry)));
    let mut out = Vec::new();
    assert_eq!(packed.write(key, &mut out, || true), Ok(Exported { sessions: entries.len(), left: 0 }));
    out
}

/// As many sessions with a certificate of this length as make so many chunks.
fn of_chunks(count: usize, key: &ExportKey) -> Vec<u8> {
    let certificate = vec![9; 20_000];
    let entry = Entry { certificate: Some(&certificate), ..plain() };
    written(&vec![entry; count], key)
}

/// Where the chunks of an export begin, behind what stands before them, and where it ends.
fn chunks(export: &[u8]) -> Vec<usize> {
    let mut begins = vec![42];
    while *begins.last().unwrap() < export.len() {
        let at = *begins.last().unwrap();
        begins.push(at + 4 + u32::from_be_bytes([0, export[at + 1], export[at + 2], export[at + 3]]) as usize);
    }
    begins
}

/// Takes so many writes and flushes, and fails at the next.
struct Fails {
    after: usize,
    taken: Vec<u8>,
}

impl Fails {
    fn count(&mut self) -> io::Result<()> {
        self.after = self.after.checked_sub(1).ok_or(ErrorKind::StorageFull)?;
        Ok(())
    }
}

impl Write for Fails {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.count()?;
        self.taken.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.count()
    }
}

/// The sessions go on here then: nobody may be able to go on with them somewhere else.
#[test]
fn an_export_that_has_failed_cannot_be_read() {
    let (mut failed, mut whole) = (0, 0);
    for after in 0..10 {
        let mut packed = Packed::default();
        assert!(packed.push(&plain()));
        let mut to = Fails { after, taken: Vec::new() };
        match packed.write(&key(1), &mut to, || true) {
            Ok(_) => whole += 1,
            Err(_) => {
                failed += 1;
                assert!(refusal(&to.taken).contains("cut short"));
            }
        }
    }
    assert!(failed >= 3 && whole >= 5, "{failed} {whole}");
}

fn refusal(export: &[u8]) -> String {
    match Export::read(&mut &*export, &key(1)) {
        Err(Error::Import(why)) => why,
        Err(other) => panic!("{other:?}"),
        Ok(export) => panic!("{} sessions", export.sessions()),
    }
}

#[test]
fn what_is_written_is_read() {
    let entries: Vec<_> = (0..1000).map(|user| Entry { user, ..plain() }).collect();
    let bytes = written(&entries, &key(1));
    assert!(chunks(&bytes).len() > 10);
    let export = Export::read(&mut &bytes[..], &key(1)).unwrap();
    assert_eq!(export.sessions(), 1000);
    assert_eq!(export.entries().collect::<Vec<_>>(), entries);
    assert_eq!(written(&[], &key(1)).len(), 42 + 4 + 8 + 16);
    assert_eq!(Export::read(&mut &written(&[], &key(1))[..], &key(1)).unwrap().sessions(), 0);
}

#[test]
fn what_stands_behind_it_is_not_read() {
    let bytes = [written(&[plain()], &key(1)), b"more".to_vec()].concat();
    let mut from = &bytes[..];
    assert_eq!(Export::read(&mut from, &key(1)).unwrap().sessions(), 1);
    assert_eq!(from, b"more");
}

#[test]
fn sessions_are_nowhere_in_clear() {
    let entry = Entry { alpn: Some(b"a protocol"), ..plain() };
    let bytes = written(&[entry], &key(1));
    for secret in [&[1; 16][..], b"a protocol"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
    assert_ne!(written(&[plain()], &key(1))[42..], written(&[plain()], &key(1))[42..], "each has a key of its own");
}

#[test]
fn cut_at_any_byte_it_is_refused() {
    let bytes = written(&[plain(), plain()], &key(1));
    for len in 0..bytes.len() {
        assert!(refusal(&bytes[..len]).contains("cut short"), "{len}");
    }
}

#[test]
fn with_any_bit_flipped_it_is_refused() {
    let bytes = written(&[plain(), plain()], &key(1));
    for bit in 0..8 * bytes.len() {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        refusal(&flipped);
    }
}

#[test]
fn put_together_otherwise_it_is_refused() {
    let (bytes, other) = (of_chunks(3, &key(1)), of_chunks(3, &key(1)));
    let at = chunks(&bytes);
    assert_eq!((at.len(), &at), (5, &chunks(&other)));
    let chunk = |of: &[u8], number: usize| of[at[number]..at[number + 1]].to_vec();
    let all = |numbers: &[usize]| {
        let chunks = numbers.iter().flat_map(|number| chunk(&bytes, *number));
        bytes[..42].iter().copied().chain(chunks).collect::<Vec<_>>()
    };
    assert_eq!(Export::read(&mut &all(&[0, 1, 2, 3])[..], &key(1)).unwrap().sessions(), 3);
    for order in [&[1, 0, 2, 3][..], &[0, 2, 3], &[0, 1, 1, 2, 3], &[3], &[0, 3], &[0, 1, 3], &[0, 1, 2, 2, 3]] {
        assert!(refusal(&all(order)).contains("damaged"), "{order:?}");
    }
    // A chunk of another export with the same key, at its own place; and the end of one behind the beginning of the other.
    let spliced = [&bytes[..at[1]], &other[at[1]..at[2]], &bytes[at[2]..]].concat();
    assert!(refusal(&spliced).contains("damaged"));
    assert!(refusal(&[&bytes[..at[2]], &other[at[2]..]].concat()).contains("damaged"));
}

#[test]
fn foreign_and_newer_ones_are_refused() {
    assert!(refusal(&written(&[plain()], &key(2))).contains("another key"));
    assert!(refusal(&[b'x'; 1000]).contains("no export"));
    let mut newer = written(&[plain()], &key(1));
    newer[9] = 3;
    assert_eq!(refusal(&newer), "its format has version 3: this library knows 2");
    // Nobody makes room for what is announced, nor waits for it.
    let mut longer = written(&[plain()], &key(1));
    longer[43..46].fill(0xff);
    assert!(refusal(&longer).contains("damaged"));
}

/// Somebody who has the key, or a mistake of ours.
#[test]
fn what_makes_no_sense_inside_the_seal_is_refused() {
    let with = |progress: Progress| Entry { progress, ..plain() };
    let last = (1 << 48) - 1;
    for (good, entry) in [
        (true, with(Progress { next: last + 1, window: (last + 1, u128::MAX), ..Progress::default() })),
        (false, with(Progress { next: last + 2, ..Progress::default() })),
        (false, with(Progress { window: (last + 2, 1), ..Progress::default() })),
        (true, with(Progress { window: (3, 7), ..Progress::default() })),
        (false, with(Progress { window: (3, 8), ..Progress::default() })),
        (false, with(Progress { window: (0, 1), ..Progress::default() })),
        (true, with(Progress { finished: Some(last), ..Progress::default() })),
        (false, with(Progress { finished: Some(last + 1), ..Progress::default() })),
        (true, with(Progress { taken: vec![1 << 48], ..Progress::default() })),
        (false, with(Progress { taken: vec![2 << 48], ..Progress::default() })),
        (true, with(Progress { sealed_blocks: 1 << 60, failed: 1 << 60, ..Progress::default() })),
        (false, with(Progress { sealed_blocks: (1 << 60) + 1, ..Progress::default() })),
        (false, with(Progress { failed: (1 << 60) + 1, ..Progress::default() })),
        (false, Entry { message_max: 0, ..plain() }),
    ] {
        let read = Export::read(&mut &written(&[plain(), entry.clone()], &key(1))[..], &key(1));
        assert_eq!(read.is_ok(), good, "{entry:?}");
    }
    // A flag that nobody has given a meaning.
    let mut bytes = Vec::new();
    plain().encode(&mut bytes);
    assert!(Export::from_plain(&bytes).is_ok());
    bytes[0] |= 32;
    assert!(Export::from_plain(&bytes).is_err());
    // An end that knows of more.
    let mut packed = Packed::default();
    packed.push(&plain());
    packed.exported.sessions += 1;
    let mut bytes = Vec::new();
    packed.write(&key(1), &mut bytes, || true).unwrap();
    assert!(refusal(&bytes).contains("another number"));
}

#[test]
fn too_long_ones_do_not_travel() {
    let long = vec![0; 65535];
    for (len, travels) in [(65534, true), (65535, false)] {
        let entry = Entry { certificate: Some(&long[..len]), ..plain() };
        assert_eq!(Packed::default().push(&entry), travels);
    }
    let datagrams = vec![&long[..60_000]; 5];
    let entry = Entry { flight: Some(Flight { sequence: 0, kept_for: 0, datagrams }), ..plain() };
    assert!(!Packed::default().push(&entry));
    // All of it together fills a chunk up.
    let most = Some(&long[..65534]);
    let entry =
        |alpn| Entry { alpn, psk_identity: most, certificate: most, resumption: most.map(Cow::Borrowed), ..plain() };
    let left = CHUNK_MAX - entry(None).encoded_len().unwrap();
    let longest = entry(Some(&long[..left]));
    assert_eq!(Export::read(&mut &written(&[longest], &key(1))[..], &key(1)).unwrap().sessions(), 1);
    assert!(!Packed::default().push(&entry(Some(&long[..left + 1]))));
}

/// What had to grow would leave what is in it behind where it was.
#[test]
fn chunks_fill_up_and_never_grow() {
    let (mut packed, certificate) = (Packed::default(), vec![9; 20_000]);
    let chunks = |packed: &Packed| packed.chunks.iter().map(|chunk| chunk.0.capacity()).collect::<Vec<_>>();
    for number in 0..1000 {
        let before = chunks(&packed);
        packed.push(&Entry { certificate: Some(&certificate[..number * 77 % 500]), ..plain() });
        if number % 100 == 0 {
            packed.push(&Entry { certificate: Some(&certificate), ..plain() });
        }
        assert!(chunks(&packed).starts_with(&before));
    }
    let bytes: usize = packed.chunks.iter().map(|chunk| chunk.0.len()).sum();
    assert!(packed.chunks.len() < 20 + bytes / CHUNK_ROOM, "{} chunks of {bytes} bytes", packed.chunks.len());
}

/// Each of them is counted by one byte.
#[test]
fn with_more_than_255_of_something_they_do_not_travel() {
    let (nonces, ids, datagrams) = (vec![1 << 48; 256], [7; 256], vec![&[][..]; 256]);
    let with = |nonce_count, our_len, peer_len, datagram_count| Entry {
        progress: Progress { taken: nonces[..nonce_count].to_vec(), ..Progress::default() },
        our_id: &ids[..our_len],
        peer_id: &ids[..peer_len],
        flight: Some(Flight { sequence: 0, kept_for: 0, datagrams: datagrams[..datagram_count].to_vec() }),
        ..plain()
    };
    let most = with(255, 255, 255, 255);
    let export = written(slice::from_ref(&most), &key(1));
    assert_eq!(Export::read(&mut &export[..], &key(1)).unwrap().entries().collect::<Vec<_>>(), [most]);
    for more in [with(256, 0, 0, 0), with(0, 256, 0, 0), with(0, 0, 256, 0), with(0, 0, 0, 256)] {
        assert!(!Packed::default().push(&more));
    }
}

/// A chunk that had to grow would leave what is in it behind where it was.
#[test]
fn no_session_is_longer_than_was_said() {
    let flight = || Some(Flight { sequence: 0, kept_for: 0, datagrams: vec![&[5; 100], &[6; 50]] });
    let longest = Entry { peer: "[2001:db8::1]:1".parse().unwrap(), local: Some("::1".parse().unwrap()), ..plain() };
    let progress = Progress { taken: vec![1 << 48; 99], ..Progress::default() };
    let with_ids = Entry { our_id: &[7; 99], peer_id: &[8; 99], flight: flight(), progress, ..longest.clone() };
    for entry in [plain(), longest.clone(), Entry { flight: flight(), ..longest }, with_ids] {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        assert!(entry.encoded_len().unwrap() >= bytes.len(), "{entry:?}");
    }
}

/// The child of a fork has what its parent has read: one of them would go on with what the other goes on with.
#[test]
fn a_child_does_not_import_what_its_parent_has_read() {
    let bytes = written(&[plain()], &key(1));
    let read = || Export::read(&mut &bytes[..], &key(1)).unwrap();
    assert_eq!(read().use_up(), Ok(()));
    let mut in_child = read().used_up_by(|| panic!("it is the parent's"));
    in_child.born = fork::generation().wrapping_sub(1);
    assert_eq!(in_child.use_up(), Err(Error::Forked));
}

/// What an entry borrows.
#[derive(Clone, Debug)]
struct Parts {
    flags: (bool, bool, bool, bool),
    suite: Suite,
    cipher: [u8; 2],
    numbers: [u64; 5],
    small: (u16, u16, i32),
    secrets: ([u8; 48], [u8; 32], [u8; 32]),
    taken: Vec<u64>,
    addresses: (SocketAddr, Option<IpAddr>),
    ids: (Vec<u8>, Vec<u8>),
    options: [Option<Vec<u8>>; 4],
    server_name: Option<String>,
    flight: Option<(u64, u64, Vec<Vec<u8>>)>,
}

fn parts() -> impl Strategy<Value = Parts> {
    let bytes = || option::of(vec(any::<u8>(), 0..600));
    let suite = proptest::sample::select(&[Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::Chacha20Poly1305][..]);
    let number = 0..1_u64 << 48;
    let secrets = (any::<[u8; 32]>(), any::<[u8; 32]>()).prop_map(|(a, b)| {
        let mut master = [0; 48];
        master[..32].copy_from_slice(&a);
        (master, a, b)
    });
    let first = (
        any::<(bool, bool, bool, bool)>(),
        suite,
        any::<[u8; 2]>(),
        any::<[u64; 5]>(),
        (any::<u16>(), 1..=u16::MAX, any::<i32>()),
    );
    let second = (
        secrets,
        vec(number.clone().prop_map(|sequence| 1 << 48 | sequence), 0..3),
        any::<(SocketAddr, Option<IpAddr>)>(),
        (vec(any::<u8>(), 0..255), vec(any::<u8>(), 0..20)),
        [bytes(), bytes(), bytes(), bytes()],
        option::of("[a-z.]{0,40}"),
        option::of((number, any::<u64>(), vec(vec(any::<u8>(), 0..300), 0..5))),
    );
    (first, second).prop_map(|((flags, suite, cipher, numbers, small), second)| {
        let (secrets, taken, (mut peer, local), ids, options, server_name, flight) = second;
        if let SocketAddr::V6(v6) = &mut peer {
            v6.set_flowinfo(0);
        }
        Parts {
            flags,
            suite,
            cipher,
            numbers,
            small,
            secrets,
            taken,
            addresses: (peer, local),
            ids,
            options,
            server_name,
            flight,
        }
    })
}

impl Parts {
    fn entry(&self) -> Entry<'_> {
        let [next, failed, heard_ago, used_ago, user] = self.numbers;
        let window = (200 + next % (1 << 40), u128::from(failed) << 40 | u128::from(user));
        Entry {
            server: self.flags.0,
            is_resumed: self.flags.1,
            extended_master_secret: self.flags.3,
            suite: self.suite,
            cipher: self.cipher,
            srtp: self.small.0,
            master: &self.secrets.0,
            client_random: &self.secrets.1,
            server_random: &self.secrets.2,
            progress: Progress {
                next: next >> 16,
                taken: self.taken.clone(),
                sealed_blocks: next >> 4,
                failed: failed >> 4,
                finished: self.taken.first().map(|nonce| nonce & 0xffff),
                window,
            },
            message_max: self.small.1,
            heard_ago,
            used_ago,
            user,
            peer: self.addresses.0,
            local: self.addresses.1,
            verify_result: self.small.2,
            our_id: &self.ids.0,
            peer_id: &self.ids.1,
            alpn: self.options[0].as_deref(),
            server_name: self.server_name.as_deref(),
            psk_identity: self.options[1].as_deref(),
            certificate: self.options[2].as_deref(),
            resumption: self.options[3].as_deref().map(Cow::Borrowed),
            checks: self.flags.2,
            flight: self.flight.as_ref().map(|(sequence, kept_for, datagrams)| Flight {
                sequence: *sequence,
                kept_for: *kept_for,
                datagrams: datagrams.iter().map(|datagram| &datagram[..]).collect(),
            }),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_sessions_are_read_as_they_were(all in vec(parts(), 0..20)) {
        let entries: Vec<_> = all.iter().map(Parts::entry).collect();
        let export = Export::read(&mut &written(&entries, &key(1))[..], &key(1)).unwrap();
        prop_assert_eq!(export.entries().collect::<Vec<_>>(), entries);
    }

    /// Whatever an entry is made into, it is refused, or is one that would be written so.
    #[test]
    fn the_reader_takes_nothing_else(parts in parts(), changes in vec((any::<usize>(), any::<u8>()), 0..4), cut in option::of(any::<usize>())) {
        let mut bytes = Vec::new();
        parts.entry().encode(&mut bytes);
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(cut.map_or(bytes.len(), |cut| cut % bytes.len()));
        if let Ok(export) = Export::from_plain(&bytes) {
            let mut again = Vec::new();
            export.entries().for_each(|entry| entry.encode(&mut again));
            prop_assert_eq!(again, bytes);
        }
    }
}
