//! The messages of the return routability check (RFC 9853 4): one byte that says which, then a cookie of eight.

/// Bytes of a message.
pub const LEN: usize = 9;

/// One message about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Asks whoever receives it to return the cookie.
    Challenge(u64),
    /// Returns the cookie: the peer is at this address, and wants to be.
    Response(u64),
    /// Returns the cookie, but the peer wants to be reached at another address.
    Drop(u64),
}

impl Check {
    /// `None` for what is no message, or one that we do not know.
    pub fn parse(bytes: &[u8]) -> Option<Check> {
        let (kind, cookie) = bytes.split_first()?;
        let cookie = u64::from_be_bytes(cookie.try_into().ok()?);
        match kind {
            0 => Some(Check::Challenge(cookie)),
            1 => Some(Check::Response(cookie)),
            2 => Some(Check::Drop(cookie)),
            _ => None,
        }
    }

    /// As it stands in a record.
    pub fn to_bytes(self) -> [u8; LEN] {
        let (kind, cookie) = match self {
            Check::Challenge(cookie) => (0, cookie),
            Check::Response(cookie) => (1, cookie),
            Check::Drop(cookie) => (2, cookie),
        };
        let mut bytes = [kind; LEN];
        bytes[1..].copy_from_slice(&cookie.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_was() {
        for check in [Check::Challenge(1), Check::Response(u64::MAX), Check::Drop(0x0102_0304_0506_0708)] {
            assert_eq!(Check::parse(&check.to_bytes()), Some(check));
        }
        assert_eq!(Check::Drop(0x0102_0304_0506_0708).to_bytes(), [2, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn others_are_none() {
        for bytes in [&[][..], &[0], &[0; 8], &[0; 10], &[3; 9]] {
            assert_eq!(Check::parse(bytes), None);
        }
    }
}
