//! How much each source holds, and which holds most.

use super::address;
use super::index::Index;
use super::list::{Links, List};
use super::slab::Slab;

/// A source with at least one handshake or connection.
pub(super) struct Source {
    key: address::Source,
    pub(super) handshakes: u32,
    pub(super) established: u32,
    /// Its established connections, the longest idle first.
    pub(super) idle: List,
    /// Among the sources with equally many established connections.
    equals: Links,
}

impl Source {
    fn equals(&mut self) -> &mut Links {
        &mut self.equals
    }
}

/// All sources. One that holds nothing is forgotten, so there are never more than connections.
pub(super) struct Sources {
    slab: Slab<Source>,
    index: Index<2, u32>,
    /// At n - 1: the sources with n established connections. The last list is never empty: a count changes by one at a time.
    by_count: Vec<List>,
}

impl Sources {
    pub(super) fn new() -> Sources {
        Sources { slab: Slab::new(), index: Index::new(), by_count: Vec::new() }
    }

    pub(super) fn find(&self, key: address::Source) -> Option<&Source> {
        Some(&self.slab[self.place(key)?])
    }

    pub(super) fn place(&self, key: address::Source) -> Option<u32> {
        self.index.get(&key.0)
    }

    /// One more handshake or connection from this source; gives its place.
    pub(super) fn enter(&mut self, key: address::Source, established: bool) -> u32 {
        let place = self.place(key).unwrap_or_else(|| {
            let fresh = Source { key, handshakes: 0, established: 0, idle: List::EMPTY, equals: Links::NONE };
            let place = self.slab.insert(fresh);
            self.index.set(&key.0, place);
            place
        });
        if established {
            self.count(place, true);
        } else {
            self.slab[place].handshakes += 1;
        }
        place
    }

    /// A handshake from this source is now a connection.
    pub(super) fn establish(&mut self, place: u32) {
        self.slab[place].handshakes -= 1;
        self.count(place, true);
    }

    /// One handshake or connection less.
    pub(super) fn leave(&mut self, place: u32, established: bool) {
        if established {
            self.count(place, false);
        } else {
            self.slab[place].handshakes -= 1;
        }
        let source = &self.slab[place];
        if source.handshakes == 0 && source.established == 0 {
            self.index.remove(&source.key.0);
            self.slab.remove(place);
        }
    }

    /// The sources that hold the most established connections; the one that came to this number first is the oldest.
    pub(super) fn fullest(&self) -> List {
        self.by_count.last().copied().unwrap_or(List::EMPTY)
    }

    /// Whether this source is one of those.
    pub(super) fn is_fullest(&self, place: u32) -> bool {
        self.slab[place].established as usize == self.by_count.len()
    }

    fn count(&mut self, place: u32, up: bool) {
        let before = self.slab[place].established as usize;
        if before > 0 {
            self.by_count[before - 1].unlink(&mut self.slab, place, Source::equals);
        }
        let after = if up { before + 1 } else { before - 1 };
        self.slab[place].established = after as u32;
        if after > self.by_count.len() {
            self.by_count.push(List::EMPTY);
        }
        if after > 0 {
            self.by_count[after - 1].push(&mut self.slab, place, Source::equals);
        }
        if self.by_count.last().is_some_and(List::is_empty) {
            self.by_count.pop();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }
}

impl std::ops::Index<u32> for Sources {
    type Output = Source;

    fn index(&self, place: u32) -> &Source {
        &self.slab[place]
    }
}

impl std::ops::IndexMut<u32> for Sources {
    fn index_mut(&mut self, place: u32) -> &mut Source {
        &mut self.slab[place]
    }
}
