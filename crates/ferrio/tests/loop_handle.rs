//! What a wake-up costs. One test in a file of its own: it looks for its loop's descriptor among the process's.

#![allow(clippy::unwrap_used, reason = "helpers outside of a test function unwrap like the tests do")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::thread;

use common::{Before, Counts, monotonic, turn};
use ferrio::engine::SendRunnable;

/// The numbers of the process's eventfds.
fn eventfds() -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        let entry = entry.unwrap();
        if fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().contains("[eventfd]")) {
            found.insert(entry.file_name().to_string_lossy().parse().unwrap());
        }
    }
    found
}

/// How often the descriptor was written to: each write adds one, and the loop never reads it.
fn writes(eventfd: i32) -> u64 {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{eventfd}")).unwrap();
    let count = info.lines().find_map(|line| line.strip_prefix("eventfd-count:")).unwrap();
    u64::from_str_radix(count.trim(), 16).unwrap()
}

#[test]
fn a_wake_up_is_one_write_and_only_while_the_loop_sleeps() {
    let before = eventfds();
    let event_loop = monotonic();
    let eventfd = *eventfds().difference(&before).next().unwrap();
    let counts = Counts::new();
    let burst = || {
        for _ in 0..1000 {
            // SAFETY: `Counts` is not Send, but this is the loop's own thread, which is not in the loop.
            event_loop.handle().inject(unsafe { SendRunnable::new(counts.runnable()) }).unwrap();
        }
    };
    // Awake: the next turn finds it, and has nothing to wait for.
    burst();
    assert_eq!(writes(eventfd), 0);
    turn(&event_loop);
    assert_eq!(counts.runs(), 1000);
    assert_eq!(event_loop.stats().blocking_waits(), 0);

    // Asleep: the first of the burst pays for all.
    _ = event_loop.run_once(&mut Before(burst)).unwrap();
    assert_eq!(writes(eventfd), 1);
    assert_eq!((counts.runs(), event_loop.stats().blocking_waits()), (2000, 1));

    // Asleep once more, and woken from another thread.
    let handle = event_loop.handle().clone();
    let wake = || thread::scope(|scope| (0..4).for_each(|_| _ = scope.spawn(|| handle.wake())));
    _ = event_loop.run_once(&mut Before(wake)).unwrap();
    assert_eq!(writes(eventfd), 2);
}
