//! The timers against a model that is too simple to be wrong: a list.

mod common;

use std::rc::Rc;

use common::{Counts, Log, SECOND};
use ferrio::engine::{Flow, Nanos, TimerKey, Timers};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    /// Set a timer so far from now, which may be in the past.
    Insert(Nanos),
    /// Cancel one of those that were ever set.
    Cancel(prop::sample::Index),
    /// Let so much time pass, and fire what is due.
    Advance(Nanos),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        // Few different deadlines, so that many are equal.
        5 => (-2..40i64).prop_map(Step::Insert),
        // Most of these are of no effect, and enough are for the dead to outnumber the living.
        12 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        1 => (0..5i64).prop_map(Step::Advance),
    ];
    prop::collection::vec(step, 1..800)
}

struct Pending {
    deadline: Nanos,
    id: usize,
}

proptest! {
    #[test]
    fn timers_do_what_a_list_does(steps in steps()) {
        let mut timers = Timers::default();
        let mut model: Vec<Pending> = Vec::new();
        let mut keys: Vec<TimerKey> = Vec::new();
        let mut now = 0;
        let log = Log::default();
        for step in steps {
            match step {
                Step::Insert(delay) => {
                    let id = keys.len();
                    keys.push(timers.insert(now + delay, log.runnable(id)));
                    model.push(Pending { deadline: now + delay, id });
                }
                Step::Cancel(index) if !keys.is_empty() => {
                    let id = index.index(keys.len());
                    let expected = model.iter().position(|timer| timer.id == id);
                    let cancelled = timers.cancel(keys[id]);
                    prop_assert_eq!(cancelled.is_some(), expected.is_some());
                    if let Some(runnable) = cancelled {
                        prop_assert_eq!(runnable.run(), Flow::Continue);
                        prop_assert_eq!(log.take(), [id], "another timer's work came out");
                    }
                    expected.map(|at| model.remove(at));
                }
                Step::Cancel(_) => {}
                Step::Advance(span) => {
                    now += span;
                    while let Some(runnable) = timers.pop_due(now) {
                        prop_assert_eq!(runnable.run(), Flow::Continue);
                    }
                    // A stable sort keeps the order of creation among equals.
                    let mut due: Vec<_> = model.extract_if(.., |timer| timer.deadline <= now).collect();
                    due.sort_by_key(|timer| timer.deadline);
                    prop_assert_eq!(log.take(), due.iter().map(|timer| timer.id).collect::<Vec<_>>());
                }
            }
            prop_assert_eq!(timers.len(), model.len());
            prop_assert_eq!(timers.is_empty(), model.is_empty());
            let dead = timers.heap_len() - timers.len();
            prop_assert!(dead < 64 || dead <= timers.len(), "{} dead entries beside {}", dead, timers.len());
            prop_assert_eq!(timers.next_deadline(), model.iter().map(|timer| timer.deadline).min());
        }
    }
}

#[test]
fn a_cancelled_timer_gives_its_work_back_at_once() {
    let counts = Counts::new();
    let mut timers = Timers::default();
    let key = timers.insert(SECOND, counts.runnable());
    drop(timers.cancel(key));
    assert_eq!((counts.drops(), counts.alive()), (1, 0));
    assert_eq!(Rc::strong_count(&counts), 1);
}

#[test]
fn a_key_that_has_had_its_day_does_not_reach_the_next_owner_of_its_slot() {
    let counts = Counts::new();
    let mut timers = Timers::default();
    let old = timers.insert(1, counts.runnable());
    drop(timers.cancel(old));
    let new = timers.insert(2, counts.runnable());
    assert!(timers.cancel(old).is_none());
    assert!(timers.cancel(new).is_some());
}

/// Compaction looked at cancelled timers only when one was cancelled, so they could outlive any number of living ones.
#[test]
fn the_dead_of_the_far_future_go_when_the_living_have_fired() {
    let counts = Counts::new();
    let mut timers = Timers::default();
    let far: Vec<_> = (0..1000).map(|_| timers.insert(1_000_000, counts.runnable())).collect();
    for deadline in 0..1000 {
        timers.insert(deadline, counts.runnable());
    }
    // In front of the dead, so that they do not surface.
    timers.insert(500_000, counts.runnable());
    far.into_iter().for_each(|key| drop(timers.cancel(key)));
    while let Some(runnable) = timers.pop_due(1000) {
        drop(runnable);
    }
    assert_eq!(timers.len(), 1);
    assert!(timers.heap_len() <= 64, "{} entries for one timer", timers.heap_len());
}

#[test]
fn take_all_gives_everything_once() {
    let counts = Counts::new();
    let mut timers = Timers::default();
    let keys: Vec<_> = (0..100).map(|deadline| timers.insert(deadline, counts.runnable())).collect();
    assert_eq!(timers.take_all().count(), 100);
    assert_eq!((timers.len(), timers.heap_len(), timers.next_deadline()), (0, 0, None));
    assert!(keys.into_iter().all(|key| timers.cancel(key).is_none()));
    assert_eq!((counts.drops(), counts.alive()), (100, 0));
}
