//! Records with connection IDs (RFC 9146 4 and 5): their header carries the receiver's ID, and what is sealed ends with the
//! true content type and zeros.
//!
//! OpenSSL knows nothing of them. While it makes the handshake, [`Records`] stand between it and the wire: what it has
//! sealed is opened with our own key and sealed anew with the ID, and what the peer has sealed is made into the record
//! that OpenSSL would have got without IDs. Both keep their numbers. That record has the nonce of the peer's and another
//! content under the same key, so it must never be seen outside of this process.

use ring::aead::Aad;

use super::{By, Records, Secrets, Suite, TAG_LEN, Used, header_number};
use crate::wire::record::{HEADER_LEN, PLAINTEXT_MAX, Record, content_type};

/// Bytes of what is authenticated besides the content and the ID.
const AAD_LEN: usize = 8 + 3 + 2 + 8 + 2;

/// The longest ID that a peer can have (RFC 9146 3).
const CID_MAX: usize = 255;

impl Records {
    /// Such as put the peer's connection ID `cid` into what they seal, if it is not empty, and then fill what is sealed up
    /// with zeros to a multiple of `padding` bytes.
    pub fn with_cid(suite: Suite, secrets: &Secrets, server: bool, cid: Box<[u8]>, padding: u16) -> Records {
        Records { cid, padding, ..Records::new(suite, secrets, server, Used::default()) }
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

    /// Opens one with our ID, whatever number it has. Gives its true content type and the length of its content.
    pub(super) fn open_with_cid(&mut self, record: &Record<'_>, out: &mut [u8]) -> Option<(u8, usize)> {
        let overhead = self.suite.explicit_len() + TAG_LEN;
        let inner_len = record.fragment().len().checked_sub(overhead)?;
        let mut room = [0; AAD_LEN + CID_MAX];
        let aad = aad(&mut room, header_number(record), record.version.to_be_bytes(), record.cid, inner_len);
        let len = self.decrypt(By::Peer, record, Aad::from(aad), out)?;
        // One of zeros alone has no type: 0 is none that anybody knows.
        let at = out[..len].iter().rposition(|byte| *byte != 0);
        Some(at.filter(|at| *at <= PLAINTEXT_MAX).map_or((0, 0), |at| (out[at], at)))
    }

    /// The place of a record of OpenSSL's takes one with the peer's ID and the same number.
    pub fn put_cid(&mut self, record: &Record<'_>) -> Option<Vec<u8>> {
        let mut content = vec![0; record.fragment().len()];
        let len = self.open_as(By::Us, record, &mut content)?;
        let mut out = vec![0; self.sealed_len(len)];
        self.seal_with_cid(header_number(record), record.content_type, &content[..len], &mut out)?;
        self.next = self.next.max(record.sequence + 1);
        Some(out)
    }

    /// The place of a record of the peer's with our ID takes the ordinary one that OpenSSL understands.
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
