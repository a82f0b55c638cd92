//! How much each source holds, and which holds most.

use super::address;
use super::index::Index;
use super::list::{Links, List};
use super::slab::Slab;

/// A source with at least one handshake or connection.
pub(super) struct Source {
    pub(super) handshakes: u32,
    pub(super) established: u32,
    /// Its handshakes, the oldest first.
    pub(super) begun: List,
    /// Its established connections, the longest idle first.
    pub(super) idle: List,
    /// Among the sources with equally many handshakes, and among those with equally many established connections.
    equals_begun: Links,
    equals: Links,
}

impl Source {
    fn equals_begun(&mut self) -> &mut Links {
        &mut self.equals_begun
    }

    fn equals(&mut self) -> &mut Links {
        &mut self.equals
    }
}

/// Sources by how many they hold of something.
struct Ranking {
    /// At n - 1: the sources with n. The last list is never empty: a count changes by one at a time.
    by_count: Vec<List>,
    links: fn(&mut Source) -> &mut Links,
}

impl Ranking {
    fn new(links: fn(&mut Source) -> &mut Links) -> Ranking {
        Ranking { by_count: Vec::new(), links }
    }

    fn fullest(&self) -> List {
        self.by_count.last().copied().unwrap_or(List::EMPTY)
    }

    fn change(&mut self, slab: &mut Slab<Source>, place: u32, before: u32, after: u32) {
        let (before, after) = (before as usize, after as usize);
        if before > 0 {
            self.by_count[before - 1].unlink(slab, place, self.links);
        }
        if after > self.by_count.len() {
            self.by_count.push(List::EMPTY);
        }
        if after > 0 {
            self.by_count[after - 1].push(slab, place, self.links);
        }
        if self.by_count.last().is_some_and(List::is_empty) {
            self.by_count.pop();
        }
    }
}

/// All sources. One that holds nothing is forgotten, so there are never more than connections.
pub(super) struct Sources {
    slab: Slab<Source>,
    index: Index<2, u32>,
    by_handshakes: Ranking,
    by_established: Ranking,
}

impl Sources {
    pub(super) fn new() -> Sources {
        let (by_handshakes, by_established) = (Ranking::new(Source::equals_begun), Ranking::new(Source::equals));
        Sources { slab: Slab::new(), index: Index::new(), by_handshakes, by_established }
    }

    pub(super) fn find(&self, key: address::Source) -> Option<&Source> {
        Some(&self.slab[self.place(key)?])
    }

    pub(super) fn place(&self, key: address::Source) -> Option<u32> {
        self.index.get(&key.0)
    }

    /// One more handshake or connection from this source; returns the source's place.
    pub(super) fn enter(&mut self, key: address::Source, established: bool) -> u32 {
        let place = self.place(key).unwrap_or_else(|| {
            let (begun, idle, equals_begun, equals) = (List::EMPTY, List::EMPTY, Links::NONE, Links::NONE);
            let place = self.slab.insert(Source { handshakes: 0, established: 0, begun, idle, equals_begun, equals });
            self.index.set(&key.0, place);
            place
        });
        self.count(place, established, true);
        place
    }

    /// A handshake from this source is now a connection.
    pub(super) fn establish(&mut self, place: u32) {
        self.count(place, false, false);
        self.count(place, true, true);
    }

    /// One handshake or connection less of the source at `place`, which is that of `key`.
    pub(super) fn leave(&mut self, key: address::Source, place: u32, established: bool) {
        self.count(place, established, false);
        let source = &self.slab[place];
        if source.handshakes == 0 && source.established == 0 {
            self.index.remove(&key.0);
            self.slab.remove(place);
        }
    }

    /// The sources that hold the most established connections; the one that came to this number first is the oldest.
    pub(super) fn fullest(&self) -> List {
        self.by_established.fullest()
    }

    /// Whether this source is one of those.
    pub(super) fn is_fullest(&self, place: u32) -> bool {
        self.slab[place].established as usize == self.by_established.by_count.len()
    }

    /// The source that came first to the most handshakes that one has.
    pub(super) fn most_handshakes(&self) -> Option<&Source> {
        let most = self.by_handshakes.fullest();
        if most.is_empty() { None } else { Some(&self.slab[most.oldest]) }
    }

    fn count(&mut self, place: u32, established: bool, up: bool) {
        let source = &mut self.slab[place];
        let (count, ranking) = match established {
            true => (&mut source.established, &mut self.by_established),
            false => (&mut source.handshakes, &mut self.by_handshakes),
        };
        let before = *count;
        *count = if up { before + 1 } else { before - 1 };
        let after = *count;
        ranking.change(&mut self.slab, place, before, after);
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
