//! Who is connected: the table of peers, the limits, and who has been idle longest.
//!
//! Entries live in a slab and are named by [`Id`], a number that notices when its holder is gone. An index with a keyed hash
//! leads from a peer's address to the oldest entry with that address; younger ones (a client that restarts on its port,
//! RFC 6347 4.2.8) wait behind it in the order in which they came. A connection with an ID of its own leaves that index for
//! another one, by which it is found only when its client begins anew. Established connections hang in two lists by idleness:
//! one of all and one of their source. Every operation takes constant time, but for the moments when the table grows.
//!
//! Memory is bounded by the entries: 130 to 180 bytes for each beside its value while the table fills, and about as much for
//! its source if it has that to itself. The indices shrink as entries go; the slabs keep the size of the fullest moment until
//! the last entry is gone. A newcomer for whom the index doubles waits for all keys to be hashed again: some 2 ms at 82,000
//! peers, 45 ms at 655,000 (`benches/registry.rs`).

mod address;
mod cids;
mod directory;
mod hash;
mod index;
mod list;
mod slab;
mod sources;

use std::net::SocketAddr;

use self::address::Peer;
pub use self::cids::{CID_MAX, Cids};
pub use self::directory::Directory;
use self::index::{HalfLine, Index};
use self::list::{Links, List};
pub use self::slab::Id;
use self::slab::{NOWHERE, Slab};
use self::sources::Sources;
use super::settings::Settings;

/// Connections that are looked at, in each of three ways, to find one that can be given up.
const CANDIDATES: usize = 64;

/// How much there may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections, handshakes in progress included.
    pub connections: u32,
    /// Handshakes in progress.
    pub handshakes: u32,
    /// Connections from one source, handshakes in progress included.
    pub connections_per_source: u32,
    /// Handshakes in progress from one source.
    pub handshakes_per_source: u32,
}

impl From<&Settings> for Limits {
    fn from(settings: &Settings) -> Limits {
        Limits {
            connections: settings.max_connections,
            handshakes: settings.max_handshakes,
            connections_per_source: settings.max_connections_per_source,
            handshakes_per_source: settings.max_handshakes_per_source,
        }
    }
}

/// Why no handshake may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many handshakes are in progress.
    Handshakes,
    /// The peer's source has too many handshakes in progress.
    Source,
    /// The peer's source has too many connections: its longest idle one has to go first.
    SourceConnections,
    /// The table is full: the longest idle connection of the fullest source has to go first.
    Connections,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A handshake in progress.
    Handshaking,
    /// A connection whose handshake has finished.
    Established,
    /// A connection that the program made itself: it counts for no limit and is never given up.
    Foreign,
}

/// Laid out in this order: what each message needs comes first, in one cache line with the beginning of its slot.
#[repr(C)]
struct Entry {
    kind: Kind,
    source: u32,
    /// All established connections by idleness.
    idle: Links,
    /// Those of the same source by idleness, or its handshakes by age.
    in_source: Links,
    /// Entries with the same peer. The oldest one's `older` is the youngest, so that the end of the list is found at once.
    /// It is NOWHERE only in an entry that is detached.
    same_peer: Links,
    peer: Peer,
}

impl Entry {
    fn idle(&mut self) -> &mut Links {
        &mut self.idle
    }

    fn in_source(&mut self) -> &mut Links {
        &mut self.in_source
    }
}

/// The table of peers; see the [module](self).
pub struct Registry<T> {
    limits: Limits,
    entries: Slab<Entry>,
    /// By place, apart from the entries, each with its number: a look-up touches nothing else of a connection.
    values: Vec<Option<(Id, T)>>,
    /// The oldest entry of each peer.
    by_peer: Index<3, Id, HalfLine>,
    /// The detached entry that came last to each address.
    detached: Index<3, Id>,
    sources: Sources,
    idle: List,
    handshakes: u32,
    established: u32,
}

impl<T> Registry<T> {
    /// An empty table.
    pub fn new(limits: Limits) -> Registry<T> {
        Registry {
            limits,
            entries: Slab::new(),
            values: Vec::new(),
            by_peer: Index::new(),
            detached: Index::new(),
            sources: Sources::new(),
            idle: List::EMPTY,
            handshakes: 0,
            established: 0,
        }
    }

    /// Sets other limits. They end no connection: [`Registry::admit`] refuses newcomers until there is room.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The oldest entry with this peer.
    #[inline]
    pub fn find(&self, peer: &SocketAddr) -> Option<Id> {
        self.by_peer.get(&Peer::from(peer).0)
    }

    /// The next younger entry with the same peer.
    pub fn next(&self, id: Id) -> Option<Id> {
        let newer = self.entries.get(id)?.same_peer.newer;
        (newer != NOWHERE).then(|| self.entries.id(newer))
    }

    /// What was inserted under `id`.
    #[inline]
    pub fn get(&self, id: Id) -> Option<&T> {
        let (holder, value) = self.values.get(id.place() as usize)?.as_ref()?;
        (*holder == id).then_some(value)
    }

    /// What was inserted under `id`, to change it.
    #[inline]
    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        let (holder, value) = self.values.get_mut(id.place() as usize)?.as_mut()?;
        (*holder == id).then_some(value)
    }

    /// The peer of `id`, with flow label 0.
    pub fn peer(&self, id: Id) -> Option<SocketAddr> {
        self.entries.get(id).map(|entry| entry.peer.into())
    }

    /// What `id` is by now.
    pub fn kind(&self, id: Id) -> Option<Kind> {
        self.entries.get(id).map(|entry| entry.kind)
    }

    /// Whether a handshake with this peer may begin now.
    ///
    /// A connection that it would replace does not count for the source, so that a client can always restart.
    pub fn admit(&self, peer: SocketAddr) -> Result<(), Refusal> {
        if self.handshakes >= self.limits.handshakes {
            return Err(Refusal::Handshakes);
        }
        let replaced = self.find(&peer).and_then(|oldest| self.kind(oldest)) == Some(Kind::Established);
        let source = self.sources.find(peer.into());
        let (handshakes, established) = source.map_or((0, 0), |source| (source.handshakes, source.established));
        if handshakes >= self.limits.handshakes_per_source {
            return Err(Refusal::Source);
        }
        if handshakes + established - u32::from(replaced) >= self.limits.connections_per_source {
            return Err(Refusal::SourceConnections);
        }
        if self.connections() >= self.limits.connections { Err(Refusal::Connections) } else { Ok(()) }
    }

    /// Adds an entry, behind those with the same peer. The limits are the caller's to ask for ([`Registry::admit`]).
    pub fn insert(&mut self, peer: SocketAddr, value: T, kind: Kind) -> Id {
        let source = match kind {
            Kind::Handshaking => self.sources.enter(peer.into(), false),
            Kind::Established => self.sources.enter(peer.into(), true),
            Kind::Foreign => NOWHERE,
        };
        let peer = Peer::from(&peer);
        let (same_peer, idle, in_source) = (Links::NONE, Links::NONE, Links::NONE);
        let place = self.entries.insert(Entry { peer, kind, same_peer, idle, in_source, source });
        let at = place as usize;
        self.values.resize_with(self.values.len().max(at + 1), || None);
        self.values[at] = Some((self.entries.id(place), value));
        match self.by_peer.get(&peer.0).map(Id::place) {
            None => {
                self.entries[place].same_peer.older = place;
                self.by_peer.set(&peer.0, self.entries.id(place));
            }
            Some(oldest) => {
                let youngest = std::mem::replace(&mut self.entries[oldest].same_peer.older, place);
                self.entries[youngest].same_peer.newer = place;
                self.entries[place].same_peer.older = youngest;
            }
        }
        match kind {
            Kind::Handshaking => {
                self.handshakes += 1;
                self.sources[source].begun.push(&mut self.entries, place, Entry::in_source);
            }
            Kind::Established => self.link_idle(place),
            Kind::Foreign => {}
        }
        self.entries.id(place)
    }

    /// The handshake has finished: what was [`Kind::Handshaking`] is from now on a connection, just used.
    pub fn establish(&mut self, id: Id) {
        if let Some(entry) = self.entries.get_mut(id)
            && entry.kind == Kind::Handshaking
        {
            entry.kind = Kind::Established;
            let source = entry.source;
            self.sources[source].begun.unlink(&mut self.entries, id.place(), Entry::in_source);
            self.sources.establish(source);
            self.handshakes -= 1;
            self.link_idle(id.place());
        }
    }

    /// This entry is not found by its peer any more, who may be anywhere, but by [`Registry::find_detached`].
    pub fn detach(&mut self, id: Id) {
        let Some(place) = self.entries.place(id).filter(|place| !self.is_detached(*place)) else { return };
        self.unlink_same_peer(place);
        self.entries[place].same_peer = Links::NONE;
        self.detached.set(&self.entries[place].peer.0, id);
    }

    /// Of the detached entries with this peer the one that came last.
    pub fn find_detached(&self, peer: SocketAddr) -> Option<Id> {
        self.detached.get(&Peer::from(&peer).0)
    }

    fn is_detached(&self, place: u32) -> bool {
        self.entries[place].same_peer.older == NOWHERE
    }

    /// Another one may have come to its address since, and is found there then.
    fn forget_detached(&mut self, place: u32) {
        let peer = self.entries[place].peer;
        if self.detached.get(&peer.0) == Some(self.entries.id(place)) {
            self.detached.remove(&peer.0);
        }
    }

    /// The peer of a detached entry has another address now. The limits of its new source do not prevent that.
    pub fn relocate(&mut self, id: Id, peer: SocketAddr) {
        let Some(place) = self.entries.place(id).filter(|place| self.is_detached(*place)) else { return };
        self.forget_detached(place);
        let before = SocketAddr::from(self.entries[place].peer);
        self.entries[place].peer = Peer::from(&peer);
        self.detached.set(&Peer::from(&peer).0, id);
        let Entry { kind: Kind::Established, source, .. } = self.entries[place] else { return };
        self.sources[source].idle.unlink(&mut self.entries, place, Entry::in_source);
        self.sources.leave(before.into(), source, true);
        let source = self.sources.enter(peer.into(), true);
        self.entries[place].source = source;
        self.sources[source].idle.push(&mut self.entries, place, Entry::in_source);
    }

    /// This connection was just used. Costs nothing when it is the one that was used last.
    #[inline]
    pub fn touch(&mut self, id: Id) {
        let Some(entry) = self.entries.get(id) else { return };
        if entry.kind != Kind::Established || self.idle.newest == id.place() {
            return;
        }
        // Without a newer neighbour it is the newest of its source already, often the only one.
        if entry.in_source.newer != NOWHERE {
            let source = entry.source;
            self.sources[source].idle.renew(&mut self.entries, id.place(), Entry::in_source);
        }
        self.idle.renew(&mut self.entries, id.place(), Entry::idle);
    }

    /// Takes an entry out; the next younger one with its peer, if any, takes its place.
    pub fn remove(&mut self, id: Id) -> Option<T> {
        let place = self.entries.place(id)?;
        match self.is_detached(place) {
            true => self.forget_detached(place),
            false => self.unlink_same_peer(place),
        }
        let Entry { kind, source, peer, .. } = self.entries[place];
        let left = SocketAddr::from(peer).into();
        match kind {
            Kind::Handshaking => {
                self.handshakes -= 1;
                self.sources[source].begun.unlink(&mut self.entries, place, Entry::in_source);
                self.sources.leave(left, source, false);
            }
            Kind::Established => {
                self.established -= 1;
                self.idle.unlink(&mut self.entries, place, Entry::idle);
                self.sources[source].idle.unlink(&mut self.entries, place, Entry::in_source);
                self.sources.leave(left, source, true);
            }
            Kind::Foreign => {}
        }
        self.entries.remove(place)?;
        let value = self.values[place as usize].take();
        if self.entries.holds_nothing() {
            self.values = Vec::new();
        }
        value.map(|(_, value)| value)
    }

    /// The connection that has to go so that `peer` is not refused for this reason, if there is one.
    pub fn victim(&self, peer: SocketAddr, why: Refusal) -> Option<Id> {
        self.victim_where(peer, why, |_, _| true)
    }

    /// The same among the connections that `may_go`.
    pub fn victim_where(&self, peer: SocketAddr, why: Refusal, may_go: impl FnMut(Id, &T) -> bool) -> Option<Id> {
        match why {
            Refusal::Source => None,
            Refusal::Handshakes => self.oldest_handshake(peer, may_go),
            Refusal::SourceConnections => self.idle_in_source(self.sources.place(peer.into())?, may_go),
            Refusal::Connections => self.idle_in_the_fullest(may_go),
        }
    }

    /// The oldest handshake (of 64 that are looked at) of the source with the most, if those are at least two more than the
    /// peer's own source has: so nobody keeps others out by only beginning handshakes.
    fn oldest_handshake(&self, peer: SocketAddr, may_go: impl FnMut(Id, &T) -> bool) -> Option<Id> {
        let own = self.sources.find(peer.into()).map_or(0, |source| source.handshakes);
        let most = self.sources.most_handshakes().filter(|source| source.handshakes > own + 1)?;
        let begun = most.begun.iter(&self.entries, |entry| &entry.in_source);
        self.first_that(begun.take(CANDIDATES), may_go)
    }

    /// The longest idle connection of a source (of 64 that are looked at).
    fn idle_in_source(&self, source: u32, may_go: impl FnMut(Id, &T) -> bool) -> Option<Id> {
        let idle = self.sources[source].idle.iter(&self.entries, |entry| &entry.in_source);
        self.first_that(idle.take(CANDIDATES), may_go)
    }

    /// The longest idle connection of the fullest source.
    ///
    /// Looked at are, at most 64 each: where several sources are equally full, those of theirs that are among the longest
    /// idle of all; then the connections of the source that has been so full longest; at last the longest idle of all, so
    /// that there is a victim although the fullest source's connections may not go. So the answer is exact while one source
    /// is fullest, and while no source has more than one connection.
    fn idle_in_the_fullest(&self, may_go: impl FnMut(Id, &T) -> bool) -> Option<Id> {
        let longest_idle = || self.idle.iter(&self.entries, |entry| &entry.idle).take(CANDIDATES);
        let fullest = self.sources.fullest();
        let of_the_fullest = (!fullest.is_empty())
            .then(|| self.sources[fullest.oldest].idle.iter(&self.entries, |entry| &entry.in_source))
            .into_iter()
            .flatten()
            .take(CANDIDATES);
        let tied = fullest.oldest != fullest.newest;
        let candidates = longest_idle()
            .filter(|place| tied && self.sources.is_fullest(self.entries[*place].source))
            .chain(of_the_fullest)
            .chain(longest_idle());
        self.first_that(candidates, may_go)
    }

    fn first_that(&self, candidates: impl Iterator<Item = u32>, mut may_go: impl FnMut(Id, &T) -> bool) -> Option<Id> {
        candidates
            .filter_map(|place| self.values[place as usize].as_ref())
            .find_map(|(id, value)| may_go(*id, value).then_some(*id))
    }

    /// Connections that count for the limits, handshakes in progress included.
    pub fn connections(&self) -> u32 {
        self.handshakes + self.established
    }

    /// Handshakes in progress.
    pub fn handshakes(&self) -> u32 {
        self.handshakes
    }

    /// Connections whose handshake has finished.
    pub fn established(&self) -> u32 {
        self.established
    }

    /// All entries, the foreign ones too.
    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        self.values.iter().flatten().map(|(id, value)| (*id, value))
    }

    fn link_idle(&mut self, place: u32) {
        self.established += 1;
        let source = self.entries[place].source;
        self.idle.push(&mut self.entries, place, Entry::idle);
        self.sources[source].idle.push(&mut self.entries, place, Entry::in_source);
    }

    fn unlink_same_peer(&mut self, place: u32) {
        let Entry { peer, same_peer: Links { older, newer }, .. } = self.entries[place];
        let is_oldest = self.entries[older].same_peer.newer == NOWHERE;
        if !is_oldest {
            self.entries[older].same_peer.newer = newer;
        } else if newer == NOWHERE {
            return self.by_peer.remove(&peer.0);
        } else {
            self.by_peer.set(&peer.0, self.entries.id(newer));
        }
        // The neighbour behind has another one before it; for the oldest that is the youngest.
        let behind = if newer == NOWHERE { self.by_peer.get(&peer.0).map(Id::place) } else { Some(newer) };
        self.entries[behind.expect("a peer with entries is indexed")].same_peer.older = older;
    }
}

#[cfg(test)]
mod tests;
