//! Doubly linked lists through the entries of a slab: order without memory of its own.

use super::slab::{NOWHERE, Slab};

/// The neighbours of an entry in one list.
#[derive(Clone, Copy)]
pub(super) struct Links {
    pub(super) older: u32,
    pub(super) newer: u32,
}

impl Links {
    pub(super) const NONE: Links = Links { older: NOWHERE, newer: NOWHERE };
}

/// The ends of a list. `links` names the links of an entry that belong to it.
#[derive(Clone, Copy)]
pub(super) struct List {
    pub(super) oldest: u32,
    pub(super) newest: u32,
}

impl List {
    pub(super) const EMPTY: List = List { oldest: NOWHERE, newest: NOWHERE };

    pub(super) fn is_empty(&self) -> bool {
        self.oldest == NOWHERE
    }

    /// Adds an entry as the newest.
    #[inline]
    pub(super) fn push<E>(&mut self, slab: &mut Slab<E>, place: u32, links: fn(&mut E) -> &mut Links) {
        *links(&mut slab[place]) = Links { older: self.newest, newer: NOWHERE };
        match self.newest {
            NOWHERE => self.oldest = place,
            newest => links(&mut slab[newest]).newer = place,
        }
        self.newest = place;
    }

    /// Takes an entry of this list out of it.
    #[inline]
    pub(super) fn unlink<E>(&mut self, slab: &mut Slab<E>, place: u32, links: fn(&mut E) -> &mut Links) {
        let Links { older, newer } = std::mem::replace(links(&mut slab[place]), Links::NONE);
        match older {
            NOWHERE => self.oldest = newer,
            older => links(&mut slab[older]).newer = newer,
        }
        match newer {
            NOWHERE => self.newest = older,
            newer => links(&mut slab[newer]).older = older,
        }
    }

    /// Makes an entry of this list its newest.
    #[inline]
    pub(super) fn renew<E>(&mut self, slab: &mut Slab<E>, place: u32, links: fn(&mut E) -> &mut Links) {
        if self.newest != place {
            self.unlink(slab, place, links);
            self.push(slab, place, links);
        }
    }

    /// From the oldest to the newest.
    pub(super) fn iter<E>(&self, slab: &Slab<E>, links: impl Fn(&E) -> &Links) -> impl Iterator<Item = u32> {
        let first = (self.oldest != NOWHERE).then_some(self.oldest);
        std::iter::successors(first, move |place| Some(links(&slab[*place]).newer).filter(|newer| *newer != NOWHERE))
    }
}
