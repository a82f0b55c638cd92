//! Things with a number that notices when they are gone.

use std::num::NonZeroU64;
use std::ops::{Index, IndexMut};

/// Places in a [`Slab`] are below this, which is no place.
pub(super) const NOWHERE: u32 = u32::MAX;

/// An empty slab that has grown beyond so many slots gives its memory back.
const KEPT_WHEN_EMPTY: usize = 1024;

/// The number of a connection: its place and the place's generation. The number of a connection that is gone finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(NonZeroU64);

impl Id {
    /// What [`Id::as_u64`] gave. Any number may be tried; 0 is none.
    #[inline]
    pub fn from_u64(number: u64) -> Option<Id> {
        // The lower half is the place plus one, in each number that was ever given out.
        if number as u32 == 0 { None } else { NonZeroU64::new(number).map(Id) }
    }

    /// The number, never 0.
    #[inline]
    pub fn as_u64(self) -> u64 {
        self.0.get()
    }

    /// The place: small, and used again once its holder is gone.
    #[inline]
    pub fn place(self) -> u32 {
        (self.0.get() as u32).wrapping_sub(1)
    }

    #[inline]
    fn generation(self) -> u32 {
        (self.0.get() >> 32) as u32
    }

    #[inline]
    fn new(generation: u32, place: u32) -> Id {
        Id(NonZeroU64::new(u64::from(generation) << 32 | (u64::from(place) + 1)).expect("place + 1 is not 0"))
    }
}

/// What tells whose it is stands before that.
#[repr(C)]
struct Slot<E> {
    /// How many held this place before.
    generation: u32,
    held: Option<E>,
}

/// A vector with holes. Its size is that of the fullest moment, until it is empty.
pub(super) struct Slab<E> {
    slots: Vec<Slot<E>>,
    vacant: Vec<u32>,
    len: usize,
    /// Where new places start: above all numbers that were given out before memory was given back.
    first_generation: u32,
    highest_generation: u32,
}

impl<E> Slab<E> {
    pub(super) fn new() -> Slab<E> {
        Slab { slots: Vec::new(), vacant: Vec::new(), len: 0, first_generation: 0, highest_generation: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether its memory was given back.
    pub(super) fn holds_nothing(&self) -> bool {
        self.slots.capacity() == 0
    }

    pub(super) fn insert(&mut self, held: E) -> u32 {
        self.len += 1;
        if let Some(place) = self.vacant.pop() {
            self.slots[place as usize].held = Some(held);
            return place;
        }
        let place = u32::try_from(self.slots.len()).ok().filter(|place| *place != NOWHERE).expect("under 2^32 entries");
        self.slots.push(Slot { generation: self.first_generation, held: Some(held) });
        place
    }

    /// Takes out what is at `place`.
    pub(super) fn remove(&mut self, place: u32) -> Option<E> {
        let slot = self.slots.get_mut(place as usize)?;
        let held = slot.held.take()?;
        self.len -= 1;
        // A place whose generations are used up stays empty for ever: no number is ever given out twice.
        if slot.generation < u32::MAX {
            slot.generation += 1;
            self.vacant.push(place);
        }
        self.highest_generation = self.highest_generation.max(slot.generation);
        if self.len == 0 && self.slots.len() > KEPT_WHEN_EMPTY && self.highest_generation < u32::MAX {
            self.first_generation = self.highest_generation;
            self.slots = Vec::new();
            self.vacant = Vec::new();
        }
        Some(held)
    }

    /// The place of `id`, while what got this number is there.
    #[inline]
    pub(super) fn place(&self, id: Id) -> Option<u32> {
        let slot = self.slots.get(id.place() as usize)?;
        (slot.generation == id.generation() && slot.held.is_some()).then(|| id.place())
    }

    /// The number of what is at `place`.
    #[inline]
    pub(super) fn id(&self, place: u32) -> Id {
        Id::new(self.slots[place as usize].generation, place)
    }

    #[inline]
    pub(super) fn get(&self, id: Id) -> Option<&E> {
        self.slots.get(id.place() as usize).filter(|slot| slot.generation == id.generation())?.held.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut E> {
        self.slots.get_mut(id.place() as usize).filter(|slot| slot.generation == id.generation())?.held.as_mut()
    }
}

/// By a place that is known to be held: the links between entries never lead to an empty one.
impl<E> Index<u32> for Slab<E> {
    type Output = E;

    #[inline]
    fn index(&self, place: u32) -> &E {
        self.slots[place as usize].held.as_ref().expect("a linked entry is there")
    }
}

impl<E> IndexMut<u32> for Slab<E> {
    #[inline]
    fn index_mut(&mut self, place: u32) -> &mut E {
        self.slots[place as usize].held.as_mut().expect("a linked entry is there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_under_another_number() {
        let mut slab = Slab::new();
        let place = slab.insert('a');
        let first = slab.id(place);
        assert_eq!(slab.remove(place), Some('a'));
        assert_eq!(slab.insert('b'), place);
        let second = slab.id(place);
        assert_eq!((first.place(), second.place()), (place, place));
        assert_eq!((slab.get(first), slab.get(second)), (None, Some(&'b')));
        assert_eq!((slab.place(first), slab.place(second)), (None, Some(place)));
    }

    #[test]
    fn a_made_up_number_finds_nothing() {
        let mut slab = Slab::new();
        slab.insert('a');
        let b = slab.insert('b');
        slab.remove(b);
        assert_eq!(Id::from_u64(0), None);
        assert_eq!(Id::from_u64(1 << 32), None);
        for number in [2, 3, 1 << 32 | 1, 1 << 32 | 2, u64::MAX] {
            let id = Id::from_u64(number).unwrap();
            assert_eq!((slab.get(id), slab.place(id)), (None, None), "{number:x}");
        }
        assert_eq!(slab.get(Id::from_u64(1).unwrap()), Some(&'a'));
    }

    #[test]
    fn no_number_comes_twice_though_memory_is_given_back() {
        let mut slab = Slab::new();
        let mut given = std::collections::HashSet::new();
        for _ in 0..3 {
            let places: Vec<u32> = (0..2 * KEPT_WHEN_EMPTY).map(|_| slab.insert(())).collect();
            assert!(places.iter().all(|place| given.insert(slab.id(*place))));
            places.iter().for_each(|place| assert!(slab.remove(*place).is_some()));
            assert_eq!((slab.slots.capacity(), slab.vacant.capacity()), (0, 0));
        }
    }

    #[test]
    fn a_place_without_further_generations_is_retired() {
        let mut slab = Slab::new();
        let place = slab.insert(1);
        slab.slots[0].generation = u32::MAX;
        let last = slab.id(place);
        slab.remove(place);
        assert_ne!(slab.insert(2), place);
        assert_eq!(slab.get(last), None);
        // Nor does it begin anew when memory could be given back.
        let places: Vec<u32> = (0..2 * KEPT_WHEN_EMPTY).map(|_| slab.insert(3)).collect();
        slab.remove(1);
        places.into_iter().for_each(|place| assert!(slab.remove(place).is_some()));
        assert_eq!(slab.len(), 0);
        (0..2 * KEPT_WHEN_EMPTY).for_each(|_| assert_ne!(slab.insert(4), place));
    }
}
