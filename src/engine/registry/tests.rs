use std::collections::HashMap;

use proptest::prelude::*;

use super::Kind::*;
use super::*;

const WIDE: Limits =
    Limits { connections: 1000, handshakes: 1000, connections_per_source: 1000, handshakes_per_source: 1000 };

fn peer(source: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, source], port))
}

#[test]
fn a_younger_entry_waits_behind_the_older_one() {
    let mut table = Registry::new(WIDE);
    let [a, b, c] = ['a', 'b', 'c'].map(|value| table.insert(peer(1, 1), value, Handshaking));
    let line = |table: &Registry<char>| -> Vec<Id> {
        std::iter::successors(table.find(&peer(1, 1)), |id| table.next(*id)).collect()
    };
    assert_eq!(line(&table), [a, b, c]);
    assert_eq!(table.remove(b), Some('b'));
    assert_eq!(line(&table), [a, c]);
    let d = table.insert(peer(1, 1), 'd', Established);
    assert_eq!(line(&table), [a, c, d]);
    assert_eq!(table.remove(a), Some('a'));
    assert_eq!(line(&table), [c, d]);
    assert_eq!(table.remove(d), Some('d'));
    let e = table.insert(peer(1, 1), 'e', Foreign);
    assert_eq!(line(&table), [c, e]);
    assert_eq!(table.remove(c), Some('c'));
    assert_eq!(table.remove(e), Some('e'));
    assert_eq!((table.find(&peer(1, 1)), table.next(e), table.entries()), (None, None, 0));
}

/// Who is known by something else is not found by his address, which somebody else may have; he counts where he is now.
#[test]
fn a_detached_entry_is_nowhere_and_counts_where_it_is() {
    let mut table = Registry::new(Limits { connections_per_source: 2, ..WIDE });
    let [a, b, c] = ['a', 'b', 'c'].map(|value| table.insert(peer(1, 1), value, Established));
    table.relocate(b, peer(2, 2));
    assert_eq!(table.peer(b), Some(peer(1, 1)), "found by its address, it stays there");
    for id in [b, a, a] {
        table.detach(id);
    }
    assert_eq!((table.find(&peer(1, 1)), table.next(c)), (Some(c), None));
    assert_eq!(table.find_detached(peer(1, 1)), Some(a), "who came last");
    table.detach(c);
    assert_eq!((table.find(&peer(1, 1)), table.find_detached(peer(1, 1))), (None, Some(c)));
    let d = table.insert(peer(1, 1), 'd', Handshaking);
    assert_eq!(table.find(&peer(1, 1)), Some(d));
    assert_eq!(table.remove(d), Some('d'));

    assert_eq!((table.admit(peer(1, 9)), table.admit(peer(2, 9))), (Err(Refusal::SourceConnections), Ok(())));
    table.relocate(a, peer(2, 1));
    table.relocate(b, peer(2, 2));
    assert_eq!((table.admit(peer(1, 9)), table.admit(peer(2, 9))), (Ok(()), Err(Refusal::SourceConnections)));
    assert_eq!((table.peer(a), table.find(&peer(2, 1))), (Some(peer(2, 1)), None));
    assert_eq!([1, 2].map(|source| table.find_detached(peer(source, 1))), [Some(c), Some(a)]);
    // The longest idle one of the fullest source.
    table.touch(a);
    assert_eq!(table.victim(peer(9, 9), Refusal::Connections), Some(b));
    table.relocate(c, peer(1, 3));
    assert_eq!(table.find_detached(peer(1, 1)), None, "nobody is left where he was");
    for (id, value, at) in [(b, 'b', peer(2, 2)), (a, 'a', peer(2, 1)), (c, 'c', peer(1, 3))] {
        assert_eq!((table.find_detached(at), table.remove(id)), (Some(id), Some(value)));
        assert_eq!(table.find_detached(at), None);
    }
    assert_eq!((table.entries(), table.established(), table.sources.len()), (0, 0, 0));
}

#[test]
fn a_stale_id_finds_and_changes_nothing() {
    let mut table = Registry::new(WIDE);
    let stale = table.insert(peer(1, 1), 'a', Handshaking);
    assert_eq!(table.remove(stale), Some('a'));
    let fresh = table.insert(peer(1, 2), 'b', Handshaking);
    assert_eq!(fresh.place(), stale.place());
    table.establish(stale);
    table.touch(stale);
    assert_eq!(table.remove(stale), None);
    assert_eq!(table.get_mut(stale), None);
    assert_eq!((table.get(stale), table.peer(stale)), (None, None));
    assert_eq!((table.kind(stale), table.next(stale)), (None, None));
    assert_eq!((table.kind(fresh), table.handshakes()), (Some(Handshaking), 1));
}

#[test]
fn each_limit_refuses_by_its_name() {
    let limits = Limits { connections: 5, handshakes: 3, connections_per_source: 3, handshakes_per_source: 2 };
    let mut table = Registry::new(limits);
    let a = table.insert(peer(1, 1), (), Handshaking);
    let b = table.insert(peer(1, 2), (), Handshaking);
    assert_eq!(table.admit(peer(1, 3)), Err(Refusal::Source));
    assert_eq!(table.admit("[::ffff:192.0.2.1]:3".parse().unwrap()), Err(Refusal::Source));
    assert_eq!(table.admit(peer(2, 1)), Ok(()));
    let c = table.insert(peer(2, 1), (), Handshaking);
    assert_eq!(table.admit(peer(3, 1)), Err(Refusal::Handshakes));
    [a, b, c].into_iter().for_each(|id| table.establish(id));
    table.insert(peer(1, 3), (), Established);
    assert_eq!(table.admit(peer(1, 4)), Err(Refusal::SourceConnections));
    assert_eq!(table.victim(peer(1, 4), Refusal::SourceConnections), Some(a), "its own longest idle one");
    assert_eq!(table.victim(peer(1, 4), Refusal::Source), None, "a handshake makes no room for another");
    assert_eq!(table.victim(peer(7, 1), Refusal::SourceConnections), None);
    assert_eq!(table.admit(peer(1, 3)), Ok(()), "a restart takes no more than there was");
    table.insert(peer(1, 3), (), Handshaking);
    assert_eq!(table.admit(peer(1, 3)), Err(Refusal::SourceConnections), "but only one at a time");
    assert_eq!(table.admit(peer(3, 1)), Err(Refusal::Connections));
    assert_eq!((table.connections(), table.handshakes(), table.established()), (5, 1, 4));
    assert_eq!(table.victim(peer(9, 9), Refusal::Connections), Some(a));
    table.remove(a);
    assert_eq!(table.admit(peer(3, 1)), Ok(()));
    table.set_limits(Limits { connections: 0, ..limits });
    assert_eq!(table.admit(peer(3, 1)), Err(Refusal::Connections));
    assert_eq!(table.entries(), 4);
}

#[test]
fn what_the_program_made_itself_is_not_counted_and_stays() {
    let limits = Limits { connections: 1, handshakes: 1, connections_per_source: 1, handshakes_per_source: 1 };
    let mut table = Registry::new(limits);
    let own = [1, 2, 3].map(|port| table.insert(peer(1, port), (), Foreign));
    own.into_iter().for_each(|id| table.establish(id));
    own.into_iter().for_each(|id| table.touch(id));
    assert_eq!((table.connections(), table.entries(), table.sources.len()), (0, 3, 0));
    assert_eq!((table.admit(peer(1, 4)), table.victim(peer(9, 9), Refusal::Connections)), (Ok(()), None));
}

#[test]
fn the_victim_is_the_longest_idle_of_the_fullest_source() {
    let mut table = Registry::new(WIDE);
    let lone = table.insert(peer(1, 1), (), Established);
    let crowd = [1, 2, 3].map(|port| table.insert(peer(2, port), (), Established));
    let pair = [1, 2].map(|port| table.insert(peer(3, port), (), Established));
    table.insert(peer(4, 1), (), Handshaking);
    table.touch(crowd[0]);
    assert_eq!(table.victim(peer(9, 9), Refusal::Connections), Some(crowd[1]));
    table.remove(crowd[1]);
    // Now two sources have two, and crowd[2] is idle for longer than both of the pair.
    assert_eq!(table.victim(peer(9, 9), Refusal::Connections), Some(crowd[2]));
    table.touch(crowd[2]);
    assert_eq!(table.victim(peer(9, 9), Refusal::Connections), Some(pair[0]));
    [crowd[0], crowd[2], pair[1]].into_iter().for_each(|id| assert!(table.remove(id).is_some()));
    assert_eq!(table.victim(peer(9, 9), Refusal::Connections), Some(lone));
    [lone, pair[0]].into_iter().for_each(|id| assert!(table.remove(id).is_some()));
    assert_eq!((table.victim(peer(9, 9), Refusal::Connections), table.handshakes()), (None, 1));
}

#[test]
fn a_handshake_makes_room_for_one_of_a_source_that_has_fewer() {
    let mut table = Registry::new(Limits { handshakes: 5, ..WIDE });
    let victim = |table: &Registry<_>, source| table.victim(peer(source, 99), Refusal::Handshakes);
    assert_eq!(victim(&table, 1), None);
    let [a, b, c] = [1, 2, 3].map(|port| table.insert(peer(1, port), (), Handshaking));
    let [d, _] = [1, 2].map(|port| table.insert(peer(2, port), (), Handshaking));
    assert_eq!(table.admit(peer(3, 1)), Err(Refusal::Handshakes));
    assert_eq!([1, 2, 3].map(|source| victim(&table, source)), [None, None, Some(a)]);
    table.establish(a);
    assert_eq!([1, 2, 3].map(|source| victim(&table, source)), [None, None, Some(d)], "who came first to two");
    table.remove(d);
    assert_eq!([1, 2, 3].map(|source| victim(&table, source)), [None, None, Some(b)]);
    table.remove(b);
    table.remove(c);
    assert_eq!(victim(&table, 3), None, "nobody has two more");
}

#[test]
fn the_victim_may_be_restricted() {
    let mut table = Registry::new(WIDE);
    let lone = table.insert(peer(1, 1), 'x', Established);
    let crowd = ['a', 'b'].map(|value| table.insert(peer(2, value as u16), value, Established));
    assert_eq!(table.victim_where(peer(9, 9), Refusal::Connections, |_, value| *value != 'a'), Some(crowd[1]));
    assert_eq!(table.victim_where(peer(9, 9), Refusal::Connections, |id, _| !crowd.contains(&id)), Some(lone));
    assert_eq!(table.victim_where(peer(9, 9), Refusal::Connections, |_, _| false), None);
    for port in 0..1000 {
        table.insert(peer(3, port), 'y', Established);
        table.insert(peer(4, port), 'y', Established);
        table.insert(peer(5, port), 'y', Handshaking);
    }
    for (why, ways) in [(Refusal::Connections, 3), (Refusal::SourceConnections, 1), (Refusal::Handshakes, 1)] {
        let mut asked = 0;
        table.victim_where(peer(3, 9), why, |_, _| {
            asked += 1;
            false
        });
        assert_eq!(asked, ways * CANDIDATES, "{why:?}");
    }
}

#[test]
fn an_empty_table_has_given_its_memory_back() {
    let mut table = Registry::new(WIDE);
    for _ in 0..2 {
        let ids: Vec<Id> = (0..5000).map(|port| table.insert(peer(1, port), port, Foreign)).collect();
        for (port, id) in (0..).zip(ids) {
            assert!(!table.values.is_empty());
            assert_eq!(table.remove(id), Some(port));
        }
        assert_eq!(table.values.capacity(), 0);
    }
}

#[test]
fn one_source_with_many_is_found_among_many_sources() {
    let mut table = Registry::new(WIDE);
    for source in 0..200 {
        table.insert(peer(source, 1), (), Established);
    }
    let two = [200, 201].map(|source| [1, 2].map(|port| table.insert(peer(source, port), (), Established)));
    // All older ones are of emptier sources: the longest idle of all does not lead to the fullest.
    assert_eq!(table.victim(peer(9, 9), Refusal::Connections), Some(two[0][0]));
}

/// The registry in the plainest words: entries in the order in which they came, idle ones by the time of their last use.
#[derive(Default)]
struct Model {
    entries: Vec<(Id, SocketAddr, Kind, u64)>,
    clock: u64,
}

impl Model {
    fn entry(&mut self, id: Id) -> Option<&mut (Id, SocketAddr, Kind, u64)> {
        self.clock += 1;
        self.entries.iter_mut().find(|entry| entry.0 == id)
    }

    fn line(&self, peer: SocketAddr) -> Vec<Id> {
        self.entries.iter().filter(|entry| entry.1 == peer).map(|entry| entry.0).collect()
    }

    fn count(&self, kind: Kind, source: Option<SocketAddr>) -> u32 {
        let of_source = |peer: &SocketAddr| source.is_none_or(|source| source.ip() == peer.ip());
        self.entries.iter().filter(|entry| entry.2 == kind && of_source(&entry.1)).count() as u32
    }

    fn admit(&self, peer: SocketAddr, limits: Limits) -> Result<(), Refusal> {
        let (handshakes, established) = (self.count(Handshaking, Some(peer)), self.count(Established, Some(peer)));
        let oldest = self.entries.iter().find(|entry| entry.1 == peer);
        let replaced = u32::from(oldest.is_some_and(|entry| entry.2 == Established));
        if self.count(Handshaking, None) >= limits.handshakes {
            Err(Refusal::Handshakes)
        } else if handshakes >= limits.handshakes_per_source {
            Err(Refusal::Source)
        } else if handshakes + established - replaced >= limits.connections_per_source {
            Err(Refusal::SourceConnections)
        } else if self.count(Handshaking, None) + self.count(Established, None) >= limits.connections {
            Err(Refusal::Connections)
        } else {
            Ok(())
        }
    }

    /// Exact, as the registry is while the fullest sources' longest idle is among the 64 longest idle.
    fn victim(&self) -> Option<Id> {
        let established = || self.entries.iter().filter(|entry| entry.2 == Established);
        let most = established().map(|entry| self.count(Established, Some(entry.1))).max()?;
        let fullest = established().filter(|entry| self.count(Established, Some(entry.1)) == most);
        fullest.min_by_key(|entry| entry.3).map(|entry| entry.0)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(SocketAddr, Kind),
    Admit(SocketAddr),
    Establish(usize),
    Touch(usize),
    Remove(usize),
    Evict,
    Limits(u32),
}

fn any_peer() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (1..5u8, 1..4u16).prop_map(|(source, port)| peer(source, port)),
        (1..3u16, 1..3u16).prop_map(|(net, port)| SocketAddr::from(([0x2001, 0xdb8, 0, net, 0, 0, 0, 1], port))),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any_peer(), prop_oneof![3 => Just(Handshaking), 2 => Just(Established), 1 => Just(Foreign)])
            .prop_map(|(peer, kind)| Step::Insert(peer, kind)),
        4 => any_peer().prop_map(Step::Admit),
        4 => any::<usize>().prop_map(Step::Establish),
        8 => any::<usize>().prop_map(Step::Touch),
        5 => any::<usize>().prop_map(Step::Remove),
        1 => Just(Step::Evict),
        1 => (0..12u32).prop_map(Step::Limits),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn as_a_list_of_entries(steps in prop::collection::vec(step(), 0..300)) {
        let mut table = Registry::new(WIDE);
        let mut model = Model::default();
        // All ids that there ever were: most are stale after a while.
        let mut ids: Vec<Id> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            let pick = |seed: usize| (!ids.is_empty()).then(|| ids[seed % ids.len()]);
            match step {
                Step::Insert(peer, kind) => {
                    let id = table.insert(peer, number, kind);
                    prop_assert!(!ids.contains(&id));
                    ids.push(id);
                    model.clock += 1;
                    model.entries.push((id, peer, kind, model.clock));
                }
                Step::Admit(peer) => prop_assert_eq!(table.admit(peer), model.admit(peer, table.limits)),
                Step::Establish(seed) => {
                    let Some(id) = pick(seed) else { continue };
                    table.establish(id);
                    let now = model.clock + 1;
                    if let Some(entry) = model.entry(id).filter(|entry| entry.2 == Handshaking) {
                        (entry.2, entry.3) = (Established, now);
                    }
                }
                Step::Touch(seed) => {
                    let Some(id) = pick(seed) else { continue };
                    table.touch(id);
                    let now = model.clock + 1;
                    if let Some(entry) = model.entry(id) {
                        entry.3 = now;
                    }
                }
                Step::Remove(seed) => {
                    let Some(id) = pick(seed) else { continue };
                    let known = model.entry(id).is_some();
                    prop_assert_eq!(table.remove(id).is_some(), known);
                    model.entries.retain(|entry| entry.0 != id);
                }
                Step::Evict => {
                    let Some(id) = table.victim(peer(9, 9), Refusal::Connections) else { continue };
                    prop_assert!(table.remove(id).is_some());
                    model.entries.retain(|entry| entry.0 != id);
                }
                Step::Limits(most) => table.set_limits(Limits {
                    connections: most * 3,
                    handshakes: most * 2,
                    connections_per_source: most,
                    handshakes_per_source: most / 2,
                }),
            }
            prop_assert_eq!(table.handshakes(), model.count(Handshaking, None));
            prop_assert_eq!(table.established(), model.count(Established, None));
            prop_assert_eq!(table.entries(), model.entries.len());
            prop_assert_eq!(table.victim(peer(9, 9), Refusal::Connections), model.victim());
        }
        let mut lines: HashMap<SocketAddr, Vec<Id>> = HashMap::new();
        for (id, peer, kind, _) in &model.entries {
            prop_assert_eq!((table.peer(*id), table.kind(*id)), (Some(*peer), Some(*kind)));
            lines.entry(*peer).or_insert_with(|| model.line(*peer));
        }
        for (peer, line) in lines {
            let found: Vec<Id> = std::iter::successors(table.find(&peer), |id| table.next(*id)).collect();
            prop_assert_eq!(found, line);
        }
        let mut all: Vec<Id> = table.iter().map(|(id, _)| id).collect();
        all.sort_unstable();
        let mut expected: Vec<Id> = model.entries.iter().map(|entry| entry.0).collect();
        expected.sort_unstable();
        prop_assert_eq!(all, expected);
        for id in ids {
            table.remove(id);
        }
        prop_assert_eq!((table.entries(), table.sources.len(), table.victim(peer(9, 9), Refusal::Connections)), (0, 0, None));
    }
}
