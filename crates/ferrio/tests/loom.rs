//! Every interleaving of the inject queue and its wake-up.
//!
//!     RUSTFLAGS="--cfg loom" cargo test -p ferrio --test loom --release

#![allow(clippy::unwrap_used, reason = "helpers outside of a test function unwrap like the tests do")]
#![cfg(loom)]

use ferrio::engine::{Inject, Wake};
use loom::sync::Arc;
use loom::thread;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The queue, and a stand-in for the descriptor: counts the writes that it would get.
#[derive(Default)]
struct Shared {
    inject: Inject<usize>,
    /// Not loom's: it only counts, and would multiply the interleavings.
    writes: AtomicUsize,
}

impl Shared {
    fn push(&self, item: usize) -> bool {
        let Ok(wake) = self.inject.push(item) else { return false };
        self.finish(wake);
        true
    }

    fn finish(&self, wake: Wake) {
        if wake == Wake::Yes {
            self.writes.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// A loop that found nothing and announced its sleep is woken by whatever comes: once the producers are done, either
/// the loop did not go to sleep, or there is a write. And it is one write, however many came.
#[test]
fn no_wake_up_is_lost_and_a_sleep_costs_one_write() {
    let mut builder = loom::model::Builder::new();
    // Without a bound it takes half a minute, and finds the same.
    builder.preemption_bound = Some(4);
    builder.check(|| {
        let shared = Arc::new(Shared::default());
        let producers: Vec<_> = (0..2)
            .map(|item| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || assert!(shared.push(item)))
            })
            .collect();
        let mut found = shared.inject.take().len();
        let sleeps = shared.inject.prepare_sleep();
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        // All is pushed now. A real loop would sit in its wait, if it sleeps.
        let writes = shared.writes.load(Ordering::SeqCst);
        assert!(writes <= 1, "{writes} writes for one sleep");
        if sleeps {
            assert!(found == 2 || writes == 1, "the loop sleeps and {} items wait", 2 - found);
        }
        shared.inject.end_sleep();
        found += shared.inject.take().len();
        assert_eq!(found, 2);
        assert!(!shared.inject.has_items());
    });
}

/// The loop goes round twice while a producer pushes twice: nothing is lost and nothing comes twice, and the order
/// holds.
#[test]
fn what_one_thread_pushes_arrives_once_and_in_order() {
    loom::model(|| {
        let shared = Arc::new(Shared::default());
        let producer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                assert!(shared.push(0));
                assert!(shared.push(1));
            })
        };
        let mut found = Vec::new();
        for _ in 0..2 {
            if shared.inject.prepare_sleep() {
                shared.inject.end_sleep();
            }
            found.extend(shared.inject.take());
        }
        producer.join().unwrap();
        // Whatever the last round missed is announced: the loop would not go to sleep over it.
        assert_eq!(shared.inject.has_items(), found.len() < 2);
        found.extend(shared.inject.take());
        assert_eq!(found, [0, 1]);
        // Each sleep costs one write at most.
        assert!(shared.writes.load(Ordering::SeqCst) <= 2);
    });
}

/// A wake-up that carries no work is not lost on a loop that has announced its sleep, and costs one write with a push
/// beside it.
#[test]
fn a_wake_up_without_work_shares_the_write_with_a_push() {
    loom::model(|| {
        let shared = Arc::new(Shared::default());
        assert!(shared.inject.prepare_sleep());
        let waker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.finish(shared.inject.wake()))
        };
        assert!(shared.push(0));
        waker.join().unwrap();
        assert_eq!(shared.writes.load(Ordering::SeqCst), 1);
    });
}

/// What is pushed while the loop closes is either taken out by it or given back to who pushed it.
#[test]
fn nothing_is_left_in_a_closed_queue() {
    loom::model(|| {
        let shared = Arc::new(Shared::default());
        let producers: Vec<_> = (0..2)
            .map(|item| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || usize::from(shared.push(item)))
            })
            .collect();
        let taken = shared.inject.close().len();
        let accepted: usize = producers.into_iter().map(|producer| producer.join().unwrap()).sum();
        assert_eq!(taken, accepted);
        assert!(shared.inject.take().is_empty() && !shared.inject.has_items());
        assert!(shared.inject.push(9).is_err());
    });
}
