//! Child processes whose end is watched.

#![allow(clippy::unwrap_used, reason = "helpers outside of a test function unwrap like the tests do")]
#![allow(clippy::zombie_processes, reason = "what is tested reaps them")]

mod common;

use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use common::{monotonic, turn};
use ferrio::engine::{ChildWatch, EventLoop, Flow, SendRunnable, Work};
use ferrio::sys::{ChildStatus, reap_child, wait_for_child};

/// Counts its runs.
#[derive(Default)]
struct Told(AtomicU32);

impl Work for Told {
    fn run(&self) -> Flow {
        self.0.fetch_add(1, Ordering::Relaxed);
        Flow::Continue
    }
}

type New = fn(&EventLoop, i32, SendRunnable) -> io::Result<ChildWatch>;

/// By a descriptor where the kernel has them, and by a thread.
const WAYS: [New; 2] = [ChildWatch::new, ChildWatch::by_thread];

/// A shell that goes on with `then` when its standard input ends.
fn shell(then: &str) -> Child {
    let script = format!("read line; {then}");
    Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap()
}

fn pid(child: &Child) -> i32 {
    child.id().try_into().unwrap()
}

fn watch(new: New, event_loop: &EventLoop, child: &Child) -> (ChildWatch, Arc<Told>) {
    let told = Arc::new(Told::default());
    let watch = new(event_loop, pid(child), SendRunnable::from_arc(Arc::clone(&told))).unwrap();
    (watch, told)
}

/// Turns until the end was told: each waits for it.
fn until_told(event_loop: &EventLoop, told: &Told) {
    while told.0.load(Ordering::Relaxed) == 0 {
        turn(event_loop);
    }
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

#[test]
fn the_end_is_told_and_the_status_kept_for_who_reaps() {
    for new in WAYS {
        let event_loop = monotonic();
        let mut child = shell("exit 7");
        let (watch, told) = watch(new, &event_loop, &child);
        assert_eq!(watch.pid(), pid(&child));
        assert_eq!(watch.reap().unwrap(), ChildStatus::Running);
        drop(child.stdin.take());
        until_told(&event_loop, &told);
        assert_eq!(watch.reap().unwrap(), ChildStatus::Exited(7));
        assert_eq!(watch.reap().unwrap(), ChildStatus::Unknown);
        drop(watch.end(&event_loop));
        assert!(event_loop.reactor().is_empty());
        drop(event_loop);
        assert_eq!(Arc::strong_count(&told), 1);
    }
}

#[test]
fn signals_reach_it_until_it_is_reaped() {
    for new in WAYS {
        let event_loop = monotonic();
        let child = shell("exit 7");
        let (watch, told) = watch(new, &event_loop, &child);
        watch.signal(0).unwrap();
        assert_eq!(errno(watch.signal(4711)), libc::EINVAL);
        watch.signal(libc::SIGTERM).unwrap();
        until_told(&event_loop, &told);
        watch.signal(libc::SIGKILL).unwrap();
        assert_eq!(watch.reap().unwrap(), ChildStatus::Killed(libc::SIGTERM));
        drop(watch.end(&event_loop));
    }
}

#[test]
fn by_a_descriptor_no_signal_reaches_another_with_the_same_number() {
    let event_loop = monotonic();
    let mut child = shell("exit 7");
    let (watch, told) = watch(ChildWatch::new, &event_loop, &child);
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(errno(watch.signal(0)), libc::ESRCH);
    until_told(&event_loop, &told);
    assert_eq!(watch.reap().unwrap(), ChildStatus::Unknown);
    drop(watch.end(&event_loop));
}

#[test]
fn one_that_is_gone_is_told_at_once() {
    let event_loop = monotonic();
    let mut child = shell("exit 7");
    assert_eq!(child.wait().unwrap().code(), Some(7));
    let (watch, told) = watch(ChildWatch::new, &event_loop, &child);
    turn(&event_loop);
    assert_eq!(told.0.load(Ordering::Relaxed), 1);
    assert_eq!(watch.reap().unwrap(), ChildStatus::Unknown);
    assert_eq!(errno(watch.signal(0)), libc::ESRCH);
    assert!(watch.end(&event_loop).is_none());
}

#[test]
fn a_thread_reaps_for_a_loop_that_is_closed() {
    let event_loop = monotonic();
    let mut child = shell("exit 7");
    let (watch, told) = watch(ChildWatch::by_thread, &event_loop, &child);
    drop(event_loop.close());
    drop(child.stdin.take());
    // The thread gives its work up before it reaps, so this ends when it has.
    while reap_child(pid(&child)).is_ok_and(|status| status == ChildStatus::Running) {
        _ = wait_for_child(pid(&child));
    }
    assert_eq!(errno(wait_for_child(pid(&child))), libc::ECHILD);
    assert_eq!(told.0.load(Ordering::Relaxed), 0);
    assert!(watch.end(&event_loop).is_none());
}

#[test]
fn what_is_no_child_has_no_status() {
    for pid in [-1, 0, 1] {
        assert_eq!(errno(reap_child(pid)), libc::ESRCH);
        assert_eq!(errno(wait_for_child(pid)), libc::ESRCH);
    }
    assert_eq!(reap_child(std::process::id().try_into().unwrap()).unwrap(), ChildStatus::Unknown);
}
