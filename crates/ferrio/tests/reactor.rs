//! Descriptors that are watched, and what users do to them meanwhile.

#![allow(clippy::unwrap_used, reason = "helpers outside of a test function unwrap like the tests do")]

mod common;

use std::cell::Cell;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use common::{Afterwards, Counts, Log, monotonic, stepped};
use ferrio::engine::{BlockingPark, Direction, EventLoop, SourceKey};

/// One turn, which does not wait for what should be there.
#[track_caller]
fn turn(event_loop: &EventLoop) {
    event_loop.hurry();
    common::turn(event_loop);
}

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

/// Two ends, one of which has something to read.
fn readable() -> (UnixStream, UnixStream) {
    let (ours, mut theirs) = pair();
    theirs.write_all(b"x").unwrap();
    (ours, theirs)
}

fn watch(event_loop: &EventLoop, key: SourceKey, direction: Direction, counts: &Rc<Counts>) {
    assert!(event_loop.reactor().watch(key, direction, counts.runnable()).unwrap().is_none());
}

/// Gives the number of `old` to a duplicate of `new`, as a user does who closes one and opens the other; in one step,
/// because tests in other threads open descriptors too.
fn replace(old: UnixStream, new: &UnixStream) -> UnixStream {
    let mut number = OwnedFd::from(old);
    rustix::io::dup2(new, &mut number).unwrap();
    number.into()
}

#[test]
fn readiness_is_told_each_turn_for_as_long_as_it_lasts() {
    let event_loop = stepped();
    let (mut ours, _theirs) = readable();
    let counts = Counts::new();
    let key = event_loop.reactor().insert(ours.as_raw_fd());
    watch(&event_loop, key, Direction::Read, &counts);
    turn(&event_loop);
    turn(&event_loop);
    assert_eq!(counts.runs(), 2);
    ours.read_exact(&mut [0]).unwrap();
    turn(&event_loop);
    assert_eq!(counts.runs(), 2);
}

#[test]
fn each_direction_has_its_own_work() {
    let event_loop = stepped();
    let (ours, _theirs) = readable();
    let (reads, writes) = (Counts::new(), Counts::new());
    let reactor = event_loop.reactor();
    let key = reactor.insert(ours.as_raw_fd());
    watch(&event_loop, key, Direction::Write, &writes);
    turn(&event_loop);
    assert_eq!((reads.runs(), writes.runs()), (0, 1));
    watch(&event_loop, key, Direction::Read, &reads);
    turn(&event_loop);
    assert_eq!((reads.runs(), writes.runs()), (1, 2));
    assert!(reactor.unwatch(key, Direction::Write).is_some());
    assert!(reactor.unwatch(key, Direction::Write).is_none());
    assert!(reactor.is_watched(key, Direction::Read) && !reactor.is_watched(key, Direction::Write));
    turn(&event_loop);
    assert_eq!((reads.runs(), writes.runs()), (2, 2));
    assert!(matches!(reactor.remove(key), (Some(_), None)));
    assert!(reactor.is_empty() && !reactor.is_watching());
    assert_eq!((reads.alive(), writes.alive()), (0, 0));
}

#[test]
fn watching_again_returns_what_was_there() {
    let event_loop = stepped();
    let (ours, _theirs) = readable();
    let log = Log::default();
    let key = event_loop.reactor().insert(ours.as_raw_fd());
    assert!(event_loop.reactor().watch(key, Direction::Read, log.runnable("first")).unwrap().is_none());
    assert!(event_loop.reactor().watch(key, Direction::Read, log.runnable("second")).unwrap().is_some());
    turn(&event_loop);
    assert_eq!(log.take(), ["second"]);
}

#[test]
fn a_key_names_nothing_after_its_source_is_gone() {
    let event_loop = stepped();
    let (ours, _theirs) = readable();
    let counts = Counts::new();
    let reactor = event_loop.reactor();
    let old = reactor.insert(ours.as_raw_fd());
    reactor.remove(old);
    let new = reactor.insert(ours.as_raw_fd());
    watch(&event_loop, new, Direction::Read, &counts);
    assert_eq!(reactor.watch(old, Direction::Write, counts.runnable()).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(reactor.unwatch(old, Direction::Read).is_none());
    assert!(matches!(reactor.remove(old), (None, None)));
    assert!(!reactor.is_watched(old, Direction::Read) && reactor.is_watched(new, Direction::Read));
    assert_eq!(counts.alive(), 1);
}

#[test]
fn an_event_that_was_on_its_way_does_not_reach_the_next_owner_of_the_slot() {
    let event_loop = stepped();
    let (first, _first_peer) = readable();
    let (second, _second_peer) = pair();
    let (old, new) = (Counts::new(), Counts::new());
    let key = event_loop.reactor().insert(first.as_raw_fd());
    watch(&event_loop, key, Direction::Read, &old);
    // The kernel has reported the first; before the loop looks at the report, the slot changes hands.
    let mut park = Afterwards(|| {
        event_loop.reactor().remove(key);
        let key = event_loop.reactor().insert(second.as_raw_fd());
        watch(&event_loop, key, Direction::Read, &new);
    });
    _ = event_loop.run_once(&mut park).unwrap();
    assert_eq!((old.runs(), new.runs()), (0, 0));
}

#[test]
fn a_hang_up_that_nobody_watches_does_not_end_the_wait() {
    let event_loop = monotonic();
    let (ours, theirs) = pair();
    let counts = Counts::new();
    let key = event_loop.reactor().insert(ours.as_raw_fd());
    watch(&event_loop, key, Direction::Read, &counts);
    drop(event_loop.reactor().unwatch(key, Direction::Read));
    drop(theirs);
    let fired = Rc::new(Cell::new(false));
    let timer = common::call({
        let fired = Rc::clone(&fired);
        move || fired.set(true)
    });
    event_loop.push_at(event_loop.clock().now() + 10_000_000, timer);
    while !fired.get() {
        common::turn(&event_loop);
    }
    // Ten milliseconds of spinning are thousands.
    assert!(event_loop.stats().turns() <= 3, "{} turns for one timer", event_loop.stats().turns());
    assert_eq!(counts.runs(), 0);
}

#[test]
fn a_hang_up_is_told_to_reader_and_writer() {
    let event_loop = stepped();
    let (ours, theirs) = pair();
    let (reads, writes) = (Counts::new(), Counts::new());
    let key = event_loop.reactor().insert(ours.as_raw_fd());
    watch(&event_loop, key, Direction::Read, &reads);
    watch(&event_loop, key, Direction::Write, &writes);
    drop(theirs);
    turn(&event_loop);
    assert_eq!((reads.runs(), writes.runs()), (1, 1));
}

#[test]
fn a_descriptor_that_its_user_closes_while_watched_harms_nobody() {
    let event_loop = stepped();
    let (ours, _theirs) = readable();
    let counts = Counts::new();
    let key = event_loop.reactor().insert(ours.as_raw_fd());
    watch(&event_loop, key, Direction::Read, &counts);
    drop(ours);
    turn(&event_loop);
    assert_eq!(counts.runs(), 0);
    assert!(event_loop.reactor().is_watching());
    drop(event_loop.reactor().unwatch(key, Direction::Read));
    assert!(!event_loop.reactor().is_watching());
    event_loop.reactor().remove(key);
    assert_eq!(counts.alive(), 0);
}

/// Removing a source whose number had been closed and given to another took the other's registration away.
#[test]
fn the_source_that_lost_its_number_does_not_disturb_the_one_that_has_it() {
    let event_loop = stepped();
    let (first, _first_peer) = pair();
    let (second, _second_peer) = readable();
    let (old, new) = (Counts::new(), Counts::new());
    let reactor = event_loop.reactor();
    let old_key = reactor.insert(first.as_raw_fd());
    watch(&event_loop, old_key, Direction::Read, &old);
    let second = replace(first, &second);
    let new_key = reactor.insert(second.as_raw_fd());
    watch(&event_loop, new_key, Direction::Read, &new);
    turn(&event_loop);
    assert_eq!((old.runs(), new.runs()), (0, 1));
    // Each of these would speak to the kernel about the number, if the old source still had it.
    _ = reactor.watch(old_key, Direction::Write, old.runnable());
    turn(&event_loop);
    assert_eq!((old.runs(), new.runs()), (0, 2));
    drop(reactor.remove(old_key));
    assert!(reactor.is_watching());
    turn(&event_loop);
    assert_eq!((old.runs(), new.runs()), (0, 3));
    drop(reactor.remove(new_key));
    assert!(!reactor.is_watching());
    assert_eq!((old.alive(), new.alive()), (0, 0));
}

/// `add_reader(number)` after the number was closed and opened again asks for the interest that is on record already,
/// so the kernel was not told.
#[test]
fn watching_again_means_the_number_as_it_is_now() {
    let event_loop = stepped();
    let (first, _first_peer) = pair();
    let (second, _second_peer) = readable();
    let (old, new) = (Counts::new(), Counts::new());
    let key = event_loop.reactor().insert(first.as_raw_fd());
    watch(&event_loop, key, Direction::Read, &old);
    let _second = replace(first, &second);
    drop(event_loop.reactor().watch(key, Direction::Read, new.runnable()).unwrap());
    turn(&event_loop);
    assert_eq!((old.runs(), old.alive(), new.runs()), (0, 0, 1));
}

#[test]
fn the_other_direction_of_a_reused_number_is_watched() {
    let event_loop = stepped();
    let (first, _first_peer) = pair();
    let (second, _second_peer) = readable();
    let (reads, writes) = (Counts::new(), Counts::new());
    let key = event_loop.reactor().insert(first.as_raw_fd());
    watch(&event_loop, key, Direction::Read, &reads);
    let _second = replace(first, &second);
    watch(&event_loop, key, Direction::Write, &writes);
    turn(&event_loop);
    assert_eq!((reads.runs(), writes.runs()), (1, 1));
}

#[test]
fn what_cannot_be_watched_is_refused_and_leaves_no_trace() {
    let event_loop = stepped();
    let reactor = event_loop.reactor();
    let counts = Counts::new();
    let file = File::open("/proc/self/exe").unwrap();
    let (ours, _theirs) = pair();
    let taken = reactor.insert(ours.as_raw_fd());
    drop(reactor.watch(taken, Direction::Read, Counts::new().runnable()).unwrap());
    for (number, error) in
        [(file.as_raw_fd(), libc::EPERM), (-1, libc::EBADF), (i32::MAX, libc::EBADF), (ours.as_raw_fd(), libc::EEXIST)]
    {
        let key = reactor.insert(number);
        let refused = reactor.watch(key, Direction::Read, counts.runnable()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(error));
        assert!(!reactor.is_watched(key, Direction::Read));
        assert!(matches!(reactor.remove(key), (None, None)));
    }
    assert_eq!(counts.alive(), 0);
    assert!(reactor.is_watching() && reactor.len() == 1);
}

#[test]
fn closing_the_loop_forgets_the_descriptors() {
    let event_loop = stepped();
    let (ours, _theirs) = readable();
    let counts = Counts::new();
    let key = event_loop.reactor().insert(ours.as_raw_fd());
    watch(&event_loop, key, Direction::Read, &counts);
    drop(event_loop.close());
    assert_eq!((counts.runs(), counts.alive()), (0, 0));
    event_loop.hurry();
    event_loop.run_once(&mut BlockingPark).unwrap_err();
    assert_eq!(counts.runs(), 0);
    assert!(!event_loop.reactor().is_watching());
}

fn watch_edge(event_loop: &EventLoop, key: SourceKey, direction: Direction, counts: &Rc<Counts>) {
    drop(event_loop.reactor().watch_edge(key, direction, counts.runnable()).unwrap());
}

#[test]
fn a_watch_for_changes_is_told_once_for_each() {
    let event_loop = stepped();
    let (ours, mut theirs) = readable();
    let counts = Counts::new();
    let key = event_loop.reactor().insert(ours.as_raw_fd());
    watch_edge(&event_loop, key, Direction::Read, &counts);
    turn(&event_loop);
    turn(&event_loop);
    assert_eq!(counts.runs(), 1);
    theirs.write_all(b"y").unwrap();
    turn(&event_loop);
    turn(&event_loop);
    assert_eq!(counts.runs(), 2);
}

#[test]
fn beside_one_that_is_told_each_turn_it_is_told_each_turn() {
    let event_loop = stepped();
    let (ours, _theirs) = readable();
    let (reads, writes) = (Counts::new(), Counts::new());
    let key = event_loop.reactor().insert(ours.as_raw_fd());
    watch_edge(&event_loop, key, Direction::Read, &reads);
    watch(&event_loop, key, Direction::Write, &writes);
    turn(&event_loop);
    turn(&event_loop);
    assert_eq!((reads.runs(), writes.runs()), (2, 2));
    drop(event_loop.reactor().unwatch(key, Direction::Write));
    // The change of mode counts as a change.
    turn(&event_loop);
    turn(&event_loop);
    assert_eq!((reads.runs(), writes.runs()), (3, 2));
}

#[test]
fn another_source_takes_the_descriptor_of_a_watch_for_changes() {
    let event_loop = stepped();
    let (ours, _theirs) = readable();
    let (left, taker) = (Counts::new(), Counts::new());
    let reactor = event_loop.reactor();
    let old = reactor.insert(ours.as_raw_fd());
    watch_edge(&event_loop, old, Direction::Read, &left);
    let new = reactor.insert(ours.as_raw_fd());
    watch(&event_loop, new, Direction::Read, &taker);
    assert!(!reactor.is_armed(old, Direction::Read) && reactor.is_armed(new, Direction::Read));
    turn(&event_loop);
    assert_eq!((left.runs(), taker.runs()), (0, 1));
    drop(reactor.remove(old));
    turn(&event_loop);
    assert_eq!((left.runs(), taker.runs(), left.alive()), (0, 2, 0));
    drop(reactor.remove(new));
    assert!(!reactor.is_watching());
}

#[test]
fn a_watch_for_changes_that_was_left_in_place_does_not_keep_a_number() {
    let event_loop = stepped();
    let (first, _first_peer) = pair();
    let (second, _second_peer) = readable();
    let (old, new) = (Counts::new(), Counts::new());
    let reactor = event_loop.reactor();
    let old_key = reactor.insert(first.as_raw_fd());
    watch_edge(&event_loop, old_key, Direction::Read, &old);
    let second = replace(first, &second);
    let new_key = reactor.insert(second.as_raw_fd());
    watch(&event_loop, new_key, Direction::Read, &new);
    turn(&event_loop);
    assert_eq!((old.runs(), new.runs()), (0, 1));
}
