//! The blocking pool: when it starts threads, when they end, and what happens to closures that nobody waits for.

#![allow(clippy::unwrap_used, reason = "helpers outside of a test function unwrap like the tests do")]

mod common;

use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Barrier, mpsc};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use ferrio::engine::BlockingPool;
use ferrio::{run, spawn, timeout, unblock};

const LONG: Duration = Duration::from_secs(3600);

/// Sends when it is dropped.
struct Tell(mpsc::Sender<()>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.send(()).unwrap();
    }
}

fn close(pool: &BlockingPool) {
    pool.close();
    pool.wait();
    assert_eq!(pool.threads(), 0);
}

#[test]
fn a_closure_runs_in_a_thread_of_the_pool() {
    let here = thread::current().id();
    let (there, name) = run(unblock(move || {
        let there = thread::current();
        (there.id(), there.name().map(str::to_owned))
    }))
    .unwrap();
    assert_ne!(here, there);
    assert_eq!(name.as_deref(), Some("ferrio-blocking-0"));
}

#[test]
fn there_is_no_thread_before_the_first_job_and_none_more_than_is_needed() {
    let pool = BlockingPool::new(8, LONG);
    assert_eq!(pool.threads(), 0);
    for _ in 0..20 {
        let name = run(pool.submit(|| thread::current().name().map(str::to_owned)).unwrap()).unwrap();
        // The thread that has told its result may not have come back yet, and then another one begins.
        assert!(name.unwrap().starts_with("ferrio-blocking-"));
    }
    assert!((1..=8).contains(&pool.threads()));
    close(&pool);
}

#[test]
fn as_many_as_the_bound_run_at_once_and_no_more() {
    const BOUND: usize = 3;
    let pool = BlockingPool::new(BOUND, LONG);
    // Nobody passes before all three are there.
    let together = Arc::new(Barrier::new(BOUND));
    let tasks: Vec<_> = (0..BOUND * 4)
        .map(|number| {
            let together = Arc::clone(&together);
            let task = pool.submit(move || {
                together.wait();
                number
            });
            assert!(pool.threads() <= BOUND);
            task.unwrap()
        })
        .collect();
    let numbers = run(async {
        let mut numbers = Vec::new();
        for task in tasks {
            numbers.push(task.await);
        }
        numbers
    });
    assert!(numbers.unwrap().into_iter().eq(0..BOUND * 4));
    close(&pool);
}

#[test]
fn a_thread_that_idles_for_long_ends() {
    thread_local!(static ENDS: std::cell::RefCell<Option<Tell>> = const { std::cell::RefCell::new(None) });
    let pool = BlockingPool::new(1, Duration::ZERO);
    let (tell, ended) = mpsc::channel();
    run(pool.submit(move || ENDS.set(Some(Tell(tell)))).unwrap()).unwrap();
    ended.recv().unwrap();
    // It is not the end of the pool.
    assert_eq!(run(pool.submit(|| 1).unwrap()).unwrap(), 1);
    close(&pool);
}

#[test]
fn a_panic_is_carried_to_who_waits() {
    let panic = catch_unwind(|| run(unblock(|| panic!("expected by the test")))).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"expected by the test"));
    // And it does not end the thread.
    let pool = BlockingPool::new(1, LONG);
    let task = pool.submit(|| panic!("expected by the test")).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| run(task))).is_err());
    assert_eq!(run(pool.submit(|| 1).unwrap()).unwrap(), 1);
    assert_eq!(pool.threads(), 1);
    close(&pool);
}

#[test]
fn a_closure_that_nobody_waits_for_is_dropped_if_it_has_not_begun() {
    let pool = BlockingPool::new(1, LONG);
    let (go, wait) = mpsc::channel::<()>();
    let (tell, dropped) = mpsc::channel();
    let first = pool.submit(move || wait.recv().unwrap()).unwrap();
    let held = Tell(tell);
    let second = pool
        .submit(move || {
            let _held = held;
            unreachable!("nobody waits for this");
        })
        .unwrap();
    drop(second);
    go.send(()).unwrap();
    run(first).unwrap();
    dropped.recv().unwrap();
    close(&pool);
}

#[test]
fn a_closure_that_has_begun_runs_to_its_end() {
    let pool = BlockingPool::new(1, LONG);
    let (begun, begins) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let (tell, ended) = mpsc::channel();
    let task = pool.submit(move || {
        begun.send(()).unwrap();
        wait.recv().unwrap();
        // The result is dropped, and with it this.
        Tell(tell)
    });
    begins.recv().unwrap();
    drop(task);
    go.send(()).unwrap();
    ended.recv().unwrap();
    close(&pool);
}

#[test]
fn a_closed_pool_refuses_and_drops_what_waits() {
    let pool = BlockingPool::new(1, LONG);
    let (begun, begins) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let (tell, dropped) = mpsc::channel();
    let running = pool.submit(move || {
        begun.send(()).unwrap();
        wait.recv().unwrap();
    });
    begins.recv().unwrap();
    let held = Tell(tell);
    let waiting = pool.submit(move || drop(held)).unwrap();
    pool.close();
    dropped.try_recv().unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| run(waiting))).is_err());
    assert!(pool.submit(|| ()).is_err());
    go.send(()).unwrap();
    pool.wait();
    run(running.unwrap()).unwrap();
}

#[test]
fn run_waits_for_closures_that_have_begun() {
    let (begun, begins) = mpsc::channel();
    let (closing, closes) = mpsc::channel();
    let (tell, ended) = mpsc::channel();
    run(async move {
        spawn(unblock(move || {
            begun.send(()).unwrap();
            closes.recv().unwrap();
            // Time enough for a run that does not wait to get ahead.
            (0..10_000).for_each(|_| thread::yield_now());
            tell.send(()).unwrap();
        }));
        let closing = Tell(closing);
        spawn(async move {
            let _closing = closing;
            pending::<()>().await;
        });
        // Lets the tasks begin, and then blocks the loop until the thread has the closure.
        ferrio::yield_now().await;
        begins.recv().unwrap();
    })
    .unwrap();
    ended.try_recv().unwrap();
}

#[test]
fn a_closure_may_outlast_its_timeout() {
    let (begun, begins) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let event_loop = common::stepped();
    ferrio::run_on(&event_loop, async {
        let closure = move || {
            begun.send(()).unwrap();
            wait.recv().unwrap();
        };
        let mut limited = pin!(timeout(LONG, unblock(closure)));
        assert!(poll_fn(|cx| Poll::Ready(limited.as_mut().poll(cx))).await.is_pending());
        // The clock does not wait for threads, so this is waited for here.
        begins.recv().unwrap();
        assert!(limited.await.is_err());
    })
    .unwrap();
    go.send(()).unwrap();
    drop(event_loop.close());
    event_loop.blocking().wait();
}

/// `async-task` aborts the process when a destructor panics; the closure's and the result's are contained.
#[test]
fn destructors_that_panic_end_nothing() {
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("expected by the test");
        }
    }

    let pool = BlockingPool::new(1, LONG);
    let (go, wait) = mpsc::channel::<()>();
    let first = pool.submit(move || wait.recv().unwrap()).unwrap();
    let bomb = Bomb;
    drop(pool.submit(move || _ = &bomb));
    drop(pool.submit(|| Bomb));
    go.send(()).unwrap();
    run(first).unwrap();
    assert_eq!(run(pool.submit(|| 1).unwrap()).unwrap(), 1);
    close(&pool);
}
