//! Deadlines: one for each connection, in a heap in which each connection's node can be found.
//!
//! When a deadline moves later, as most do with each message, that is only noted; the heap learns of it when the old deadline
//! comes. So activity costs one store, a call with nothing due costs one comparison, and the heap holds at most one node for
//! each place of the registry.

use super::registry::Id;

/// Postponed deadlines that one call of [`TimerQueue::pop_due`] puts back in order.
const PUT_BACK_AT_MOST: usize = 64;

/// Children of a node: half as many levels as a binary heap has, and the four lie in one or two cache lines.
const CHILDREN: usize = 4;

/// A queue that becomes empty gives its memory back if it has grown beyond this.
const KEPT_WHEN_EMPTY: usize = 1024;

/// What waits in the heap. `due` may be earlier than the deadline of the connection, never later.
#[derive(Clone, Copy)]
struct Node {
    due: u64,
    place: u32,
}

/// What is known of the connection at one place of the registry.
#[derive(Clone, Copy)]
struct Timer {
    /// The connection, while it has a deadline and so a node in the heap.
    id: Option<Id>,
    deadline: u64,
    /// Where its node stands in the heap.
    at: u32,
}

const IDLE: Timer = Timer { id: None, deadline: u64::MAX, at: 0 };

/// The deadlines of all connections; times are microseconds, `u64::MAX` is never.
#[derive(Default)]
pub struct TimerQueue {
    heap: Vec<Node>,
    /// By place of the connection's [`Id`].
    timers: Vec<Timer>,
}

impl TimerQueue {
    /// A queue without deadlines.
    pub fn new() -> TimerQueue {
        TimerQueue::default()
    }

    /// When to call [`TimerQueue::pop_due`]: at the earliest deadline, or before it if a deadline that was earlier has been
    /// postponed meanwhile.
    #[inline]
    pub fn next(&self) -> u64 {
        self.heap.first().map_or(u64::MAX, |node| node.due)
    }

    /// Sets the deadline of `id`, in place of the one that it had; `u64::MAX` is the same as [`TimerQueue::cancel`].
    ///
    /// A deadline that an earlier holder of the same place has left behind is replaced; one set for such a holder is ignored.
    #[inline]
    pub fn set(&mut self, id: Id, deadline: u64) {
        if deadline == u64::MAX {
            return self.cancel(id);
        }
        let place = id.place() as usize;
        if place >= self.timers.len() {
            self.timers.resize(place + 1, IDLE);
        }
        let timer = &mut self.timers[place];
        if timer.id > Some(id) {
            return;
        }
        let queued = timer.id.replace(id).is_some();
        timer.deadline = deadline;
        let at = timer.at as usize;
        if !queued {
            self.heap.push(Node { due: deadline, place: id.place() });
            self.rise(self.heap.len() - 1);
        } else if deadline < self.heap[at].due {
            self.heap[at].due = deadline;
            self.rise(at);
        }
    }

    /// Forgets the deadline of `id`, which is about to go.
    pub fn cancel(&mut self, id: Id) {
        if let Some(timer) = self.timers.get(id.place() as usize)
            && timer.id == Some(id)
        {
            self.take(timer.at as usize);
        }
    }

    /// A connection whose deadline is not later than `now`, and that deadline, which is forgotten.
    ///
    /// `None` means that this call found none. If [`TimerQueue::next`] is still not later than `now`, there were more
    /// postponed deadlines than one call takes the time to put back in order.
    #[inline]
    pub fn pop_due(&mut self, now: u64) -> Option<(Id, u64)> {
        if self.next() > now { None } else { self.search_due(now) }
    }

    /// All deadlines, in no order.
    pub fn into_deadlines(self) -> impl Iterator<Item = (Id, u64)> {
        let TimerQueue { heap, timers } = self;
        heap.into_iter().filter_map(move |node| {
            let Timer { id, deadline, .. } = timers[node.place as usize];
            id.map(|id| (id, deadline))
        })
    }

    /// Looks for a deadline that has come, and puts postponed ones back in order on the way.
    fn search_due(&mut self, now: u64) -> Option<(Id, u64)> {
        for _ in 0..PUT_BACK_AT_MOST {
            let Node { due, place } = *self.heap.first().filter(|node| node.due <= now)?;
            let Timer { id, deadline, .. } = self.timers[place as usize];
            if deadline <= now {
                self.take(0);
                return id.map(|id| (id, deadline));
            }
            debug_assert!(due < deadline);
            self.heap[0].due = deadline;
            self.sink(0);
        }
        None
    }

    /// Takes the node at `at` out of the heap.
    fn take(&mut self, at: usize) {
        let gone = self.heap.swap_remove(at);
        self.timers[gone.place as usize] = IDLE;
        if at < self.heap.len() {
            self.rise(at);
            self.sink(at);
        }
        if self.heap.is_empty() && self.timers.len() > KEPT_WHEN_EMPTY {
            *self = TimerQueue::new();
        }
    }

    /// Moves the node at `at` towards the root, as far as it belongs.
    fn rise(&mut self, mut at: usize) {
        let node = self.heap[at];
        while at > 0 {
            let parent = (at - 1) / CHILDREN;
            if self.heap[parent].due <= node.due {
                break;
            }
            self.put(at, self.heap[parent]);
            at = parent;
        }
        self.put(at, node);
    }

    /// Moves the node at `at` away from the root, as far as it belongs.
    fn sink(&mut self, mut at: usize) {
        let node = self.heap[at];
        loop {
            let first = at * CHILDREN + 1;
            let children = first..(first + CHILDREN).min(self.heap.len());
            let Some(least) = children.min_by_key(|child| self.heap[*child].due) else { break };
            if node.due <= self.heap[least].due {
                break;
            }
            self.put(at, self.heap[least]);
            at = least;
        }
        self.put(at, node);
    }

    #[inline]
    fn put(&mut self, at: usize, node: Node) {
        self.heap[at] = node;
        self.timers[node.place as usize].at = at as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn id(number: u64) -> Id {
        Id::from_u64(number).unwrap()
    }

    #[test]
    fn deadlines_fall_due_in_order() {
        let mut queue = TimerQueue::new();
        for number in 1..=500 {
            queue.set(id(number), number * 7919 % 1009);
        }
        let mut last = 0;
        for _ in 0..500 {
            assert_eq!(queue.pop_due(queue.next() - 1), None);
            let (id, deadline) = queue.pop_due(queue.next()).unwrap();
            assert_eq!(deadline, id.as_u64() * 7919 % 1009);
            assert!(deadline >= last);
            last = deadline;
        }
        assert_eq!((queue.next(), queue.pop_due(u64::MAX), queue.heap.len()), (u64::MAX, None, 0));
    }

    #[test]
    fn a_postponed_deadline_does_not_move_in_the_heap() {
        let mut queue = TimerQueue::new();
        queue.set(id(1), 10);
        queue.set(id(2), 20);
        for deadline in 11..1000 {
            queue.set(id(1), deadline);
            assert_eq!((queue.next(), queue.heap.len()), (10, 2));
        }
        assert_eq!(queue.pop_due(500), Some((id(2), 20)));
        assert_eq!((queue.next(), queue.pop_due(998)), (999, None));
        assert_eq!(queue.pop_due(999), Some((id(1), 999)));
    }

    #[test]
    fn one_call_puts_a_bounded_number_in_order() {
        let mut queue = TimerQueue::new();
        let count = PUT_BACK_AT_MOST as u64 * 3;
        for number in 1..=count {
            queue.set(id(number), 10);
            queue.set(id(number), 20);
        }
        for _ in 0..3 {
            assert_eq!(queue.next(), 10);
            assert_eq!(queue.pop_due(15), None);
        }
        assert_eq!((queue.next(), queue.heap.len()), (20, count as usize));
    }

    #[test]
    fn a_new_holder_of_a_place_is_not_woken_for_the_old_one() {
        let mut queue = TimerQueue::new();
        let (old, new) = (id(1), id(1 << 32 | 1));
        queue.set(old, 10);
        queue.set(new, 20);
        queue.set(old, 5);
        queue.cancel(old);
        assert_eq!(queue.pop_due(10), None);
        assert_eq!(queue.pop_due(20), Some((new, 20)));
    }

    #[test]
    fn memory_is_given_back() {
        let mut queue = TimerQueue::new();
        let numbers = 1..=2 * KEPT_WHEN_EMPTY as u64;
        numbers.clone().for_each(|number| queue.set(id(number), number));
        // While there is one, all that are left are there.
        for number in numbers {
            assert_eq!(queue.next(), number);
            queue.cancel(id(number));
        }
        assert_eq!((queue.heap.capacity(), queue.timers.capacity()), (0, 0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u64, u64),
        Cancel(u64),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1..40u64, prop_oneof![9 => 0..300u64, 1 => Just(u64::MAX)]).prop_map(|(id, after)| Step::Set(id, after)),
            1 => (1..40u64).prop_map(Step::Cancel),
            2 => (0..60u64).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #[test]
        fn as_a_map_of_deadlines(steps in prop::collection::vec(step(), 0..400)) {
            let mut queue = TimerQueue::new();
            let mut model = HashMap::new();
            let mut now = 0u64;
            for step in steps {
                match step {
                    Step::Set(number, after) => {
                        let deadline = now.saturating_add(after);
                        queue.set(id(number), deadline);
                        model.insert(number, deadline);
                    }
                    Step::Cancel(number) => {
                        queue.cancel(id(number));
                        model.remove(&number);
                    }
                    Step::Pass(time) => {
                        now += time;
                        let mut due = Vec::new();
                        while queue.next() <= now {
                            due.extend(queue.pop_due(now).map(|(id, deadline)| (id.as_u64(), deadline)));
                        }
                        due.sort_unstable();
                        let mut expected: Vec<_> =
                            model.iter().map(|(id, deadline)| (*id, *deadline)).filter(|(_, at)| *at <= now).collect();
                        expected.sort_unstable();
                        prop_assert_eq!(due, expected);
                        model.retain(|_, deadline| *deadline > now);
                    }
                }
                model.retain(|_, deadline| *deadline != u64::MAX);
                prop_assert_eq!(queue.heap.len(), model.len());
                prop_assert!(queue.next() <= model.values().copied().min().unwrap_or(u64::MAX));
            }
        }
    }
}
