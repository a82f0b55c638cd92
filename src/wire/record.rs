//! The DTLS record (RFC 6347 4.1): thirteen bytes of header in clear, then a fragment.

/// Bytes of a record's header: type, version, epoch, sequence number, length.
pub const HEADER_LEN: usize = 13;

/// The largest fragment before protection (RFC 5246 6.2.1).
pub const PLAINTEXT_MAX: usize = 1 << 14;

/// The largest fragment that a protected record may carry: 2^14 and 2048 for the protection (RFC 5246 6.2.3).
pub const FRAGMENT_MAX: usize = (1 << 14) + 2048;

/// Record content types (RFC 5246 6.2.1).
pub mod content_type {
    /// ChangeCipherSpec.
    pub const CHANGE_CIPHER_SPEC: u8 = 20;
    /// Alert.
    pub const ALERT: u8 = 21;
    /// Handshake.
    pub const HANDSHAKE: u8 = 22;
    /// Application data.
    pub const APPLICATION_DATA: u8 = 23;
    /// A record with a connection ID (RFC 9146).
    pub const TLS12_CID: u8 = 25;
    /// Return routability check (RFC 9853).
    pub const RETURN_ROUTABILITY_CHECK: u8 = 27;
}

/// The version in the header of a DTLS 1.2 record. Hellos, and the answers to them, may have another.
pub const DTLS_1_2: u16 = 0xfefd;

/// One record of a datagram, as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// One of [`content_type`], or anything else a stranger wrote.
    pub content_type: u8,
    /// 0xfeff is DTLS 1.0; [`DTLS_1_2`].
    pub version: u16,
    /// How often the keys have changed.
    pub epoch: u16,
    /// The 48-bit number of the record in its epoch.
    pub sequence: u64,
    /// The receiver's connection ID, behind the number (RFC 9146 4); empty in all types but 25.
    pub cid: &'a [u8],
    /// Header and fragment together.
    pub bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// The first record of `datagram`, and what follows it. `None` where no whole record with a DTLS version stands there.
    ///
    /// Only the side that issued a connection ID knows how long it is. So here a record with one extends to the end of the
    /// datagram, and [`Record::cid`] stays empty.
    #[inline]
    pub fn parse(datagram: &'a [u8]) -> Option<(Record<'a>, &'a [u8])> {
        Record::parse_with(datagram, 0)
    }

    /// The same for the receiver of the datagram, whose connection IDs have `cid_len` bytes.
    #[inline]
    pub fn parse_with(datagram: &'a [u8], cid_len: usize) -> Option<(Record<'a>, &'a [u8])> {
        let header = datagram.first_chunk::<HEADER_LEN>()?;
        let (cid, end) = match header[0] {
            content_type::TLS12_CID if cid_len == 0 => (&[][..], datagram.len()),
            content_type::TLS12_CID => {
                let (cid, rest) = datagram[HEADER_LEN - 2..].split_at_checked(cid_len)?;
                let length = u16::from_be_bytes(*rest.first_chunk()?);
                (cid, HEADER_LEN + cid_len + usize::from(length))
            }
            _ => (&[][..], HEADER_LEN + usize::from(u16::from_be_bytes([header[11], header[12]]))),
        };
        if header[1] != 0xfe || end - HEADER_LEN - cid.len() > FRAGMENT_MAX || datagram.len() < end {
            return None;
        }
        let (bytes, rest) = datagram.split_at(end);
        let number = u64::from_be_bytes([0, 0, header[5], header[6], header[7], header[8], header[9], header[10]]);
        let record = Record {
            content_type: header[0],
            version: u16::from_be_bytes([header[1], header[2]]),
            epoch: u16::from_be_bytes([header[3], header[4]]),
            sequence: number,
            cid,
            bytes,
        };
        Some((record, rest))
    }

    /// What follows the header.
    #[inline]
    pub fn fragment(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN + self.cid.len()..]
    }
}

/// The whole records of a datagram, in order; ends silently at the first that is cut short or no record at all.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    cid_len: usize,
}

/// Walks the records of `datagram`. One with a connection ID is the last of them; see [`Record::parse`].
pub fn records(datagram: &[u8]) -> Records<'_> {
    records_with(datagram, 0)
}

/// Walks the records of a datagram for its receiver, whose connection IDs have `cid_len` bytes.
pub fn records_with(datagram: &[u8], cid_len: usize) -> Records<'_> {
    Records { rest: datagram, cid_len }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        let (record, rest) = Record::parse_with(self.rest, self.cid_len)?;
        self.rest = rest;
        Some(record)
    }
}

/// Writes `sequence` (48 bits) into the record header at the start of `record`.
#[inline]
pub fn set_sequence(record: &mut [u8], sequence: u64) {
    record[5..11].copy_from_slice(&sequence.to_be_bytes()[2..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fragment_is_longer_than_it_may_be() {
        for (len, good) in [(0, true), (FRAGMENT_MAX, true), (FRAGMENT_MAX + 1, false), (FRAGMENT_MAX + 2, false)] {
            let mut bytes = vec![0; HEADER_LEN + len];
            bytes[..3].copy_from_slice(&[content_type::APPLICATION_DATA, 0xfe, 0xfd]);
            bytes[11..HEADER_LEN].copy_from_slice(&(len as u16).to_be_bytes());
            assert_eq!(Record::parse(&bytes).is_some(), good, "{len} bytes");
            // Nor does an ID count.
            bytes[0] = content_type::TLS12_CID;
            bytes.splice(HEADER_LEN - 2..HEADER_LEN - 2, [7; 5]);
            assert_eq!(Record::parse_with(&bytes, 5).is_some(), good, "{len} bytes and an ID");
        }
    }
}
