//! Records with connection IDs (RFC 9146 4 and 5): their header carries the receiver's ID, and what is sealed ends with the
//! true content type and zeros.
//!
//! OpenSSL does not support them. While it makes the handshake, [`Records`] stand between it and the wire: what it has
//! sealed is opened with our own key and sealed again with the ID, and what the peer has sealed is turned into the record
//! that OpenSSL would have got without IDs. Both keep their numbers. So that record has the nonce of the peer's, and other
//! content under the same key: it must never leave this process.

use ring::aead::Aad;

use super::{By, Records, Secrets, Suite, TAG_LEN, Used, header_number};
use crate::wire::record::{HEADER_LEN, PLAINTEXT_MAX, Record, content_type};

/// Bytes of what is authenticated besides the content and the ID.
const AAD_LEN: usize = 8 + 3 + 2 + 8 + 2;

/// The longest ID that a peer can have (RFC 9146 3).
const CID_MAX: usize = 255;

impl Records {
    /// Records that carry the peer's connection ID `cid`, if it is not empty; what is sealed is then padded with zeros to a
    /// multiple of `padding` bytes.
    pub fn with_cid(suite: Suite, secrets: &Secrets, server: bool, cid: Box<[u8]>, padding: u16) -> Records {
        let mut records = Records::new(suite, secrets, server, Used::default());
        records.carry(cid, padding);
        records
    }

    /// From now on what is sealed carries this ID; see [`Records::with_cid`].
    pub fn carry(&mut self, cid: Box<[u8]>, padding: u16) {
        (self.cid, self.padding) = (cid, padding);
    }

    /// The peer's connection ID.
    pub fn cid(&self) -> &[u8] {
        &self.cid
    }

    /// Bytes of the longest message whose record has at most `room` bytes.
    pub fn content_max(&self, room: usize) -> usize {
        let inner = room.saturating_sub(HEADER_LEN + self.cid.len() + self.suite.explicit_len() + TAG_LEN);
        if self.cid.is_empty() {
            return inner;
        }
        let padding = usize::from(self.padding).max(1);
        (inner / padding * padding).saturating_sub(1)
    }

    /// Bytes of what is sealed for a content of `len` bytes.
    #[inline]
    pub(super) fn inner_len(&self, len: usize) -> usize {
        if self.cid.is_empty() { len } else { (len + 1).next_multiple_of(self.padding.max(1).into()) }
    }

    /// A record of ours with the peer's ID.
    pub(super) fn seal_with_cid(
        &mut self,
        number: [u8; 8],
        content_type: u8,
        content: &[u8],
        out: &mut [u8],
    ) -> Option<usize> {
        let (explicit_len, inner_len) = (self.suite.explicit_len(), self.inner_len(content.len()));
        let cid_end = HEADER_LEN - 2 + self.cid.len();
        let begin = cid_end + 2 + explicit_len;
        let [.., high, low] = (explicit_len + inner_len + TAG_LEN).to_be_bytes();
        out[..3].copy_from_slice(&[content_type::TLS12_CID, 0xfe, 0xfd]);
        out[3..11].copy_from_slice(&number);
        out[11..cid_end].copy_from_slice(&self.cid);
        out[cid_end..cid_end + 2].copy_from_slice(&[high, low]);
        out[cid_end + 2..begin].copy_from_slice(&number[..explicit_len]);
        let (inner, tag) = out[begin..].split_at_mut(inner_len);
        inner[..content.len()].copy_from_slice(content);
        inner[content.len()] = content_type;
        inner[content.len() + 1..].fill(0);
        let mut room = [0; AAD_LEN + CID_MAX];
        let aad = Aad::from(aad(&mut room, number, [0xfe, 0xfd], &self.cid, inner_len));
        let nonce = self.key(By::Us).nonce(self.suite, number);
        let sealed = self.expanded().by(By::Us).seal_in_place_separate_tag(nonce, aad, inner).ok()?;
        tag[..TAG_LEN].copy_from_slice(sealed.as_ref());
        Some(begin + inner_len + TAG_LEN)
    }

    /// Opens a record with our ID, whatever its number. Returns its true content type and the length of its content.
    pub(super) fn open_with_cid(&mut self, record: &Record<'_>, out: &mut [u8]) -> Option<(u8, usize)> {
        let overhead = self.suite.explicit_len() + TAG_LEN;
        let inner_len = record.fragment().len().checked_sub(overhead)?;
        let mut room = [0; AAD_LEN + CID_MAX];
        let aad = aad(&mut room, header_number(record), record.version.to_be_bytes(), record.cid, inner_len);
        let len = self.decrypt(By::Peer, record, Aad::from(aad), out)?;
        // A content of only zeros has no type, as 0 is none.
        let at = out[..len].iter().rposition(|byte| *byte != 0);
        Some(at.filter(|at| *at <= PLAINTEXT_MAX).map_or((0, 0), |at| (out[at], at)))
    }

    /// Turns a record of OpenSSL's into one with the peer's ID and the same number.
    pub fn put_cid(&mut self, record: &Record<'_>) -> Option<Vec<u8>> {
        let mut content = vec![0; record.fragment().len()];
        let len = self.open_as(By::Us, record, &mut content)?;
        let mut out = vec![0; self.sealed_len(len)];
        self.seal_with_cid(header_number(record), record.content_type, &content[..len], &mut out)?;
        self.next = self.next.max(record.sequence + 1);
        Some(out)
    }

    /// Turns a record of the peer's with our ID into the ordinary one that OpenSSL understands.
    pub fn take_cid(&mut self, record: &Record<'_>, content_type: u8, content: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![0; HEADER_LEN + self.suite.explicit_len() + content.len() + TAG_LEN];
        self.seal_as(By::Peer, header_number(record), content_type, content, &mut out)?;
        Some(out)
    }

    /// Whether `record` has the number of the last Finished of the peer's.
    pub fn is_finished(&self, record: &Record<'_>) -> bool {
        self.finished == Some(record.sequence)
    }

    /// The peer has repeated its Finished, in `record`.
    pub fn note_finished(&mut self, record: &Record<'_>) {
        self.finished = self.finished.max(Some(record.sequence));
    }
}

/// What is authenticated besides the content (RFC 9146 5.3). The length of the ID is in it, and that of what is sealed.
fn aad<'a>(
    room: &'a mut [u8; AAD_LEN + CID_MAX],
    number: [u8; 8],
    version: [u8; 2],
    cid: &[u8],
    inner_len: usize,
) -> &'a [u8] {
    let end = AAD_LEN - 2 + cid.len();
    room[..8].fill(0xff);
    room[8..11].copy_from_slice(&[content_type::TLS12_CID, cid.len() as u8, content_type::TLS12_CID]);
    room[11..13].copy_from_slice(&version);
    room[13..21].copy_from_slice(&number);
    room[21..end].copy_from_slice(cid);
    room[end..end + 2].copy_from_slice(&(inner_len as u16).to_be_bytes());
    &room[..end + 2]
}

#[cfg(test)]
mod tests {
    use openssl::symm::{Cipher, encrypt_aead};
    use proptest::prelude::*;

    use super::super::tests::{SUITES, hex, open_with, seal, secrets};
    use super::*;
    use crate::wire::record::records_with;

    const OURS: &[u8] = &[0xa1, 0xa2, 0xa3];
    const THEIRS: &[u8] = &[0xb1, 0xb2, 0xb3, 0xb4, 0xb5];

    /// Both ends: the server is known as THEIRS to nobody but the client, and so on.
    fn pair(suite: Suite, padding: u16) -> (Records, Records) {
        let secrets = secrets();
        let client = Records::with_cid(suite, &secrets, false, THEIRS.into(), padding);
        let server = Records::with_cid(suite, &secrets, true, OURS.into(), padding);
        (client, server)
    }

    /// The layout of RFC 9146 5.3, byte by byte.
    #[test]
    fn the_additional_data() {
        let mut room = [0x55; AAD_LEN + CID_MAX];
        let number = [0x00, 0x01, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66];
        let with = aad(&mut room, number, [0xfe, 0xfd], THEIRS, 0x0123);
        assert_eq!(with, hex("ffffffffffffffff 19 05 19 fefd 0001 112233445566 b1b2b3b4b5 0123"));
        let longest = [0xcc; 255];
        let with = aad(&mut room, number, [0xfe, 0xfd], &longest, 0x4001);
        let expected = [hex("ffffffffffffffff 19 ff 19 fefd 0001 112233445566"), longest.to_vec(), hex("4001")];
        assert_eq!(with, expected.concat());
    }

    /// A whole record, made a second time with OpenSSL's AEAD from what the RFCs say.
    #[test]
    fn a_record_made_by_hand() {
        for (suite, cipher) in [
            (Suite::Aes128Gcm, Cipher::aes_128_gcm()),
            (Suite::Aes256Gcm, Cipher::aes_256_gcm()),
            (Suite::Chacha20Poly1305, Cipher::chacha20_poly1305()),
        ] {
            let (mut client, _) = pair(suite, 16);
            client.next = 0x0102_0304_0506;
            let record = seal(&mut client, content_type::APPLICATION_DATA, b"four");
            let number = hex("0001 010203040506");
            let gcm = suite != Suite::Chacha20Poly1305;
            let nonce: Vec<u8> = match gcm {
                true => [&client.write.iv[..4], &number].concat(),
                false => {
                    let padded = [&[0; 4], &number[..]].concat();
                    client.write.iv.iter().zip(padded).map(|(iv, byte)| iv ^ byte).collect()
                }
            };
            let inner = [&b"four\x17"[..], &[0; 11]].concat();
            let aad = hex("ffffffffffffffff 19 05 19 fefd 0001 010203040506 b1b2b3b4b5 0010");
            let mut tag = [0; 16];
            let key = &client.write.bytes[..cipher.key_len()];
            let sealed = encrypt_aead(cipher, key, Some(&nonce), &aad, &inner, &mut tag).unwrap();
            let explicit: &[u8] = if gcm { &number } else { &[] };
            let length = ((explicit.len() + sealed.len() + tag.len()) as u16).to_be_bytes();
            let expected =
                [&hex("19 fefd 0001 010203040506 b1b2b3b4b5")[..], &length, explicit, &sealed, &tag].concat();
            assert_eq!(record, expected, "{suite:?}");
        }
    }

    #[test]
    fn true_types_and_padding_come_back() {
        for suite in SUITES {
            for padding in [0, 1, 2, 16, 64] {
                let (mut client, mut server) = pair(suite, padding);
                for len in [0, 1, 14, 15, 16, 17, 500] {
                    for content_type in [21, 22, 23, 27, 255] {
                        let content: Vec<u8> = (0..len).map(|n| n as u8 % 3).collect();
                        let record = seal(&mut client, content_type, &content);
                        assert_eq!(
                            open_with(&mut server, &record, THEIRS.len()),
                            Some((content_type, content.clone()))
                        );
                        assert_eq!(open_with(&mut server, &record, THEIRS.len()), None, "a replay");
                        let overhead = 13 + THEIRS.len() + suite.explicit_len() + 16;
                        assert_eq!((record.len() - overhead) % usize::from(padding.max(1)), 0);
                        assert!(record.len() - overhead > len);
                        assert!(
                            client.content_max(record.len()) >= len
                                && client.content_max(record.len() - 1) < len + usize::from(padding.max(1))
                        );
                    }
                }
            }
        }
    }

    /// Room for one byte more or less: the longest message is really the longest.
    #[test]
    fn the_longest_message_for_a_room() {
        for suite in SUITES {
            for padding in [0, 1, 7, 64] {
                let (with_id, _) = pair(suite, padding);
                let without = Records::with_cid(suite, &secrets(), false, [].into(), padding);
                for (records, room) in
                    [with_id, without].iter().flat_map(|records| (200..400).map(move |room| (records, room)))
                {
                    let most = records.content_max(room);
                    assert!(records.sealed_len(most) <= room && records.sealed_len(most + 1) > room);
                }
            }
        }
    }

    /// Nothing but zeros has no type, nor has what is too long; they are authentic all the same, and not taken twice.
    #[test]
    fn a_record_without_a_type() {
        let (mut client, mut server) = pair(Suite::Aes128Gcm, 16);
        let longest = vec![7; PLAINTEXT_MAX];
        let record = seal(&mut client, 23, &longest);
        assert_eq!(open_with(&mut server, &record, THEIRS.len()), Some((23, longest)));
        for record in [seal(&mut client, 0, &[]), seal(&mut client, 23, &[7; PLAINTEXT_MAX + 1])] {
            assert_eq!(open_with(&mut server, &record, THEIRS.len()), Some((0, vec![])));
            assert_eq!(open_with(&mut server, &record, THEIRS.len()), None);
        }
    }

    /// What stands between libssl and the wire: its record goes out with the peer's ID under the same number, and the peer's
    /// comes in without.
    #[test]
    fn between_libssl_and_the_wire() {
        for suite in SUITES {
            let secrets = secrets();
            let (mut ours, mut peer) = pair(suite, 0);
            let mut libssl = Records::new(suite, &secrets, false, Used { next: 5, ..Used::default() });
            let mut ours_of_it = Records::with_cid(suite, &secrets, false, THEIRS.into(), 0);
            let ordinary = seal(&mut libssl, content_type::HANDSHAKE, b"finished");
            let out = ours_of_it.put_cid(&Record::parse(&ordinary).unwrap().0).unwrap();
            assert_eq!((out[0], &out[3..11]), (content_type::TLS12_CID, &ordinary[3..11]));
            let mut server = Records::with_cid(suite, &secrets, true, OURS.into(), 0);
            assert_eq!(
                open_with(&mut server, &out, THEIRS.len()),
                Some((content_type::HANDSHAKE, b"finished".to_vec()))
            );
            // The next one of ours has the next number.
            assert_eq!(seal(&mut ours_of_it, content_type::APPLICATION_DATA, b"x")[3..11], [0, 1, 0, 0, 0, 0, 0, 6]);

            // And in.
            let answer = seal(&mut server, content_type::HANDSHAKE, b"finished too");
            let (record, _) = Record::parse_with(&answer, OURS.len()).unwrap();
            let mut content = vec![0; record.fragment().len()];
            let plain = ours_of_it.look(&record, &mut content).unwrap();
            let taken = ours_of_it.take_cid(&record, plain.content_type, &content[..plain.len]).unwrap();
            assert_eq!((taken[0], &taken[3..11]), (content_type::HANDSHAKE, &answer[3..11]));
            assert_eq!(open_with(&mut libssl, &taken, 0), Some((content_type::HANDSHAKE, b"finished too".to_vec())));
            // To look does not remember.
            assert!(ours_of_it.open(&record, &mut content).is_some());
            // With other keys there is nothing to be had.
            assert!(ours.put_cid(&Record::parse(&ordinary).unwrap().0).is_none());
            assert!(peer.open(&record, &mut content).is_none());
        }
    }

    proptest! {
        /// No bit of a record can be changed, the ID's length neither.
        #[test]
        fn a_changed_record_never_opens(at in 0usize..70, flip in 1u8.., len in 0usize..40) {
            let (mut client, mut server) = pair(SUITES[at % 3], 0);
            let mut record = seal(&mut client, content_type::APPLICATION_DATA, &vec![7; len]);
            let at = at % record.len();
            record[at] ^= flip;
            for record in records_with(&record, THEIRS.len()).take(1) {
                let mut out = vec![0; record.fragment().len()];
                prop_assert!(server.open(&record, &mut out).is_none());
            }
        }
    }
}
