//! `run` and `run_on`: what they return, and what becomes of what is left when they end.

mod common;

use std::cell::Cell;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use common::tasks::{Note, message};
use common::{Log, SECOND, secs, stepped};
use ferrio::engine::EventLoop;
use ferrio::{run, run_on, sleep, spawn, yield_now};

#[test]
fn run_returns_what_the_future_does_and_may_borrow() {
    let text = String::from("borrowed");
    let mut changed = 0;
    let length = run(async {
        yield_now().await;
        changed += 1;
        text.len()
    });
    assert_eq!((length.unwrap(), changed), (8, 1));
    assert!(EventLoop::current().is_none());
}

#[test]
fn a_panic_of_the_main_future_leaves_run_after_the_loop_has_closed() {
    let log = Log::default();
    let panic = catch_unwind(AssertUnwindSafe(|| {
        run(async {
            drop(spawn({
                let note = Note(log.clone(), "task dropped");
                async move {
                    let _note = note;
                    pending::<()>().await;
                }
            }));
            yield_now().await;
            panic!("expected by the test");
        })
    }))
    .unwrap_err();
    assert_eq!(message(panic), "expected by the test");
    assert_eq!(log.take(), ["task dropped"]);
    assert!(EventLoop::current().is_none());
}

#[test]
fn what_is_left_when_run_ends_is_dropped_with_its_loop_still_there() {
    struct Spawns(Rc<Cell<bool>>);

    impl Drop for Spawns {
        fn drop(&mut self) {
            let task = spawn(async { unreachable!("the loop is closed") });
            self.0.set(task.is_finished());
        }
    }

    let refused = Rc::new(Cell::new(false));
    run(async {
        let spawns = Spawns(Rc::clone(&refused));
        drop(spawn(async move {
            let _spawns = spawns;
            pending::<()>().await;
        }));
        yield_now().await;
    })
    .unwrap();
    assert!(refused.get());
}

#[test]
fn a_task_may_run_its_own_loop_and_another_one() {
    let (event_loop, other) = (stepped(), stepped());
    let (own, inner) = (Rc::clone(&event_loop), Rc::clone(&other));
    let result = run_on(&event_loop, async move {
        let task = spawn(async {
            sleep(secs(2)).await;
            2
        });
        let nested = run_on(&own, async { (sleep(secs(1)).await, task.await).1 }).unwrap();
        run_on(&inner, sleep(secs(5))).unwrap();
        sleep(secs(1)).await;
        nested
    });
    assert_eq!(result.unwrap(), Ok(2));
    assert_eq!((event_loop.clock().now(), other.clock().now()), (3 * SECOND, 5 * SECOND));
}

#[test]
fn a_task_may_close_the_loop_that_runs_it() {
    let (event_loop, log) = (stepped(), Log::default());
    let result = run_on(&event_loop, async {
        let _note = Note(log.clone(), "main dropped");
        drop(EventLoop::current().unwrap().close());
        pending::<()>().await;
    });
    assert!(result.is_err());
    assert_eq!(log.take(), ["main dropped"]);
}

#[test]
fn without_a_loop_there_is_a_message() {
    let panic = catch_unwind(|| drop(spawn(async {}))).unwrap_err();
    assert_eq!(message(panic), "no ferrio loop runs on this thread");
    let nested = catch_unwind(|| run(async { run(async {}) })).unwrap_err();
    assert!(message(nested).contains("runs a loop already"));
}
