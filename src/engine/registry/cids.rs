//! Which connection has which connection ID.

use super::Id;
use super::index::Index;
use crate::tls;

/// Bytes of the longest ID that we give out.
pub const CID_MAX: usize = 32;

/// How many random IDs are tried to find one that is free: short ones may all be taken.
const TRIES: usize = 16;

/// Connection IDs of one length, each with its holder. Two never have the same last eight bytes.
pub struct Cids {
    len: usize,
    /// What those begin with that we give out.
    prefix: Box<[u8]>,
    holders: Index<1, Id>,
}

impl Cids {
    /// An empty table for IDs of `len` bytes, which begin with `prefix`. 0 bytes: nobody has any.
    pub fn new(len: usize, prefix: &[u8]) -> Cids {
        debug_assert!(prefix.len() < len.max(1) && len <= CID_MAX);
        Cids { len, prefix: prefix.into(), holders: Index::new() }
    }

    /// Bytes of an ID.
    pub fn cid_len(&self) -> usize {
        self.len
    }

    /// An ID that nobody has. It is random but for its beginning: nobody learns from it how many there are.
    pub fn choose(&self) -> Option<Box<[u8]>> {
        let fresh = || {
            let mut cid = self.prefix.to_vec();
            cid.resize(self.len, 0);
            tls::randomize(&mut cid[self.prefix.len()..]);
            cid.into_boxed_slice()
        };
        std::iter::repeat_with(fresh).take(TRIES).find(|cid| self.holders.get(&key(cid)).is_none())
    }

    /// `cid` is `holder`'s from now on.
    pub fn set(&mut self, cid: &[u8], holder: Id) {
        if !cid.is_empty() {
            self.holders.set(&key(cid), holder);
        }
    }

    /// `cid`, which somebody has, is nobody's from now on.
    pub fn remove(&mut self, cid: &[u8]) {
        if !cid.is_empty() {
            self.holders.remove(&key(cid));
        }
    }

    /// Who may have `cid`: the holder knows the whole of it.
    #[inline]
    pub fn find(&self, cid: &[u8]) -> Option<Id> {
        self.holders.get(&key(cid))
    }
}

/// The last eight bytes, which are the random ones, or as many as there are.
#[inline]
fn key(cid: &[u8]) -> [u64; 1] {
    [cid.iter().fold(0, |key, byte| key << 8 | u64::from(*byte))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> Id {
        Id::from_u64(number).unwrap()
    }

    #[test]
    fn chosen_ones_are_as_wanted_and_found() {
        for len in 1..=CID_MAX {
            let prefix = &[7; CID_MAX][..(len - 1).min(3)];
            let mut cids = Cids::new(len, prefix);
            let count = if len < 6 { 20 } else { 1000 };
            let chosen: Vec<_> = (1..=count).map(|number| (cids.choose().unwrap(), number)).collect();
            for (cid, number) in &chosen {
                assert!(cid.len() == len && cid.starts_with(prefix));
                cids.set(cid, id(*number));
                assert_eq!(cids.find(cid), Some(id(*number)));
            }
        }
    }

    #[test]
    fn none_is_chosen_twice() {
        let mut cids = Cids::new(1, &[]);
        let mut count = 0;
        while let Some(cid) = cids.choose() {
            assert_eq!(cids.find(&cid), None);
            count += 1;
            cids.set(&cid, id(count));
        }
        assert!((128..=256).contains(&count), "{count}");
        for byte in 0..=255 {
            if cids.find(&[byte]).is_some() {
                cids.remove(&[byte]);
                assert_eq!(cids.find(&[byte]), None);
            }
        }
        assert!(cids.choose().is_some());
    }

    #[test]
    fn empty_ones_are_nobodys() {
        let mut cids = Cids::new(0, &[]);
        assert_eq!(cids.choose().as_deref(), Some(&[][..]));
        cids.set(&[], id(1));
        assert_eq!(cids.find(&[]), None);
        // Nor do they take the place of one that ends with eight zeros.
        let mut cids = Cids::new(8, &[]);
        cids.set(&[0; 8], id(1));
        cids.set(&[], id(2));
        assert_eq!(cids.find(&[0; 8]), Some(id(1)));
        cids.remove(&[]);
        assert_eq!(cids.find(&[0; 8]), Some(id(1)));
    }
}
