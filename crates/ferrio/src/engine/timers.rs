//! What runs at a time.
//!
//! A binary heap of small entries, ordered by deadline and then by creation, so that equal deadlines fire in the order
//! in which they were set. The work itself lies in a slab beside the heap: cancelling takes it out at once, with all
//! that it holds, and leaves a dead entry of three words in the heap. Dead entries are dropped when they surface, or
//! all together when they outnumber the living.
//!
//! Budget: setting is a push to a vector and a sift of a few words, cancelling is an index and a compare; neither
//! allocates once the vectors have grown.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use slab::Slab;

use super::{Nanos, Runnable};

/// Names one timer for as long as it is pending; later it names nothing, even if its slot has been given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerKey {
    slot: u32,
    sequence: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    deadline: Nanos,
    /// Counts up for the life of the loop: it breaks ties, and tells a slot's present owner from an earlier one.
    sequence: u64,
    slot: u32,
}

#[derive(Debug)]
struct Slot {
    sequence: u64,
    runnable: Runnable,
}

/// The pending timers of one loop.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<Entry>>,
    slots: Slab<Slot>,
    next_sequence: u64,
}

/// Below this many entries the dead ones are left to surface by themselves.
const COMPACT_FROM: usize = 64;

impl Timers {
    /// How many timers are pending.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no timer is pending.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How many entries the heap holds, dead ones included.
    pub fn heap_len(&self) -> usize {
        self.heap.len()
    }

    /// Sets a timer.
    ///
    /// # Panics
    ///
    /// When 2^32 timers are pending.
    pub fn insert(&mut self, deadline: Nanos, runnable: Runnable) -> TimerKey {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let slot = self.slots.insert(Slot { sequence, runnable });
        let Ok(slot) = u32::try_from(slot) else { panic!("more than 2^32 timers are pending") };
        self.heap.push(Reverse(Entry { deadline, sequence, slot }));
        TimerKey { slot, sequence }
    }

    /// Takes a pending timer's work out; `None` if it has fired or was cancelled before.
    pub fn cancel(&mut self, key: TimerKey) -> Option<Runnable> {
        self.take(key.slot, key.sequence)
    }

    /// The deadline of the timer that fires next.
    pub fn next_deadline(&mut self) -> Option<Nanos> {
        while let Some(Reverse(entry)) = self.heap.peek() {
            if is_live(&self.slots, entry) {
                return Some(entry.deadline);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes the next timer's work out if its deadline is not after `now`.
    pub fn pop_due(&mut self, now: Nanos) -> Option<Runnable> {
        if self.next_deadline()? > now {
            return None;
        }
        let Reverse(entry) = self.heap.pop()?;
        self.take(entry.slot, entry.sequence)
    }

    /// Takes everything out, for the caller to drop.
    pub fn take_all(&mut self) -> impl Iterator<Item = Runnable> + use<> {
        self.heap.clear();
        std::mem::take(&mut self.slots).into_iter().map(|(_, slot)| slot.runnable)
    }

    /// Shows the work of every pending timer to `visit`.
    pub fn for_each(&self, mut visit: impl FnMut(&Runnable)) {
        self.slots.iter().for_each(|(_, slot)| visit(&slot.runnable));
    }

    fn take(&mut self, slot: u32, sequence: u64) -> Option<Runnable> {
        let slot = slot as usize;
        if self.slots.get(slot).is_none_or(|owner| owner.sequence != sequence) {
            return None;
        }
        let runnable = self.slots.remove(slot).runnable;
        // Here, and not only in `cancel`: when the living fire, the dead of the far future come to outnumber them too.
        // Each cancelled timer pays for one entry of one pass, so this is constant time in the long run.
        if self.heap.len() >= COMPACT_FROM && self.heap.len() > 2 * self.slots.len() {
            let slots = &self.slots;
            self.heap.retain(|Reverse(entry)| is_live(slots, entry));
        }
        Some(runnable)
    }
}

fn is_live(slots: &Slab<Slot>, entry: &Entry) -> bool {
    slots.get(entry.slot as usize).is_some_and(|owner| owner.sequence == entry.sequence)
}
