//! Native tasks: spawning, detaching, aborting, panics, and the end of their loop.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::task::Poll;

use common::tasks::{Bomb, Note, catch_unwind_async, message};
use common::{Log, SECOND, call, secs, stepped, turn};
use ferrio::{Aborted, run, run_on, sleep, spawn, spawn_on, yield_now};

#[test]
fn tasks_begin_in_the_next_turn_in_order_of_spawning() {
    let log = Log::default();
    run(async {
        let tasks: Vec<_> = ["a", "b", "c"]
            .into_iter()
            .map(|name| {
                let log = log.clone();
                spawn(async move {
                    log.add(name);
                    yield_now().await;
                    log.add(name);
                    name
                })
            })
            .collect();
        log.add("main");
        for (task, name) in tasks.into_iter().zip(["a", "b", "c"]) {
            assert_eq!(task.await, Ok(name));
        }
    })
    .unwrap();
    assert_eq!(log.take(), ["main", "a", "b", "c", "a", "b", "c"]);
}

#[test]
fn native_tasks_take_turns_with_everything_else_in_the_ready_queue() {
    let (event_loop, log) = (stepped(), Log::default());
    let _entered = event_loop.enter();
    event_loop.push(log.runnable("runnable"));
    let task = spawn_on(&event_loop, {
        let log = log.clone();
        async move {
            log.add("first step");
            yield_now().await;
            log.add("second step");
        }
    });
    event_loop.push(log.runnable("another"));
    turn(&event_loop);
    assert_eq!(log.take(), ["runnable", "first step", "another"]);
    event_loop.push(log.runnable("after the yield"));
    turn(&event_loop);
    assert_eq!(log.take(), ["second step", "after the yield"]);
    assert!(task.is_finished());
}

#[test]
fn a_loop_that_an_embedder_drives_runs_native_tasks() {
    let (event_loop, log) = (stepped(), Log::default());
    // From a callback of the embedder, in the middle of a turn.
    event_loop.push(call({
        let log = log.clone();
        move || {
            let log = log.clone();
            drop(spawn(async move {
                sleep(secs(1)).await;
                log.add("slept");
            }));
        }
    }));
    let _entered = event_loop.enter();
    while log.len() == 0 {
        turn(&event_loop);
    }
    assert_eq!(event_loop.clock().now(), SECOND);
}

#[test]
fn a_detached_task_runs_on() {
    let (event_loop, log) = (stepped(), Log::default());
    run_on(&event_loop, async {
        drop(spawn({
            let log = log.clone();
            async move {
                yield_now().await;
                log.add("done");
            }
        }));
        sleep(secs(1)).await;
    })
    .unwrap();
    assert_eq!(log.take(), ["done"]);
}

#[test]
fn nobody_needs_to_keep_a_task_alive() {
    let (event_loop, log) = (stepped(), Log::default());
    // It waits for what nobody will ever wake, and nobody has its handle or its waker.
    drop(spawn_on(&event_loop, {
        let note = Note(log.clone(), "dropped");
        async move {
            let _note = note;
            pending::<()>().await;
        }
    }));
    turn(&event_loop);
    event_loop.hurry();
    turn(&event_loop);
    assert!(log.take().is_empty());
    drop(event_loop.close());
    assert_eq!(log.take(), ["dropped"]);
}

#[test]
fn abort_drops_the_future_where_it_waits_and_the_awaiter_learns_of_it_after() {
    let log = Log::default();
    run(async {
        let task = spawn({
            let note = Note(log.clone(), "dropped");
            async move {
                let _note = note;
                pending::<()>().await;
            }
        });
        yield_now().await;
        task.abort();
        assert!(!task.is_finished() && log.take().is_empty(), "abort() itself drops nothing");
        assert_eq!(task.await, Err(Aborted));
        assert_eq!(log.take(), ["dropped"]);
    })
    .unwrap();
}

#[test]
fn abort_before_the_first_step_and_after_the_last() {
    run(async {
        let task = spawn(async { unreachable!("it was aborted before") });
        task.abort();
        assert_eq!(task.await, Err::<(), _>(Aborted));

        let task = spawn(async { 42 });
        yield_now().await;
        task.abort();
        yield_now().await;
        assert_eq!(task.await, Ok(42));
    })
    .unwrap();
}

#[test]
fn a_task_may_abort_itself() {
    run(async {
        let own: Rc<RefCell<Option<ferrio::JoinHandle<()>>>> = Rc::default();
        let (reached, went_on) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
        let task = spawn({
            let (own, reached, went_on) = (Rc::clone(&own), Rc::clone(&reached), Rc::clone(&went_on));
            async move {
                own.borrow().as_ref().unwrap().abort();
                reached.set(true);
                yield_now().await;
                went_on.set(true);
            }
        });
        *own.borrow_mut() = Some(task);
        yield_now().await;
        let task = own.take().unwrap();
        assert_eq!(task.await, Err(Aborted));
        assert!(reached.get() && !went_on.get());
    })
    .unwrap();
}

#[test]
fn a_handle_may_abort_and_be_awaited_in_another_thread() {
    run(async {
        let task = spawn(async {
            // Not Send, unlike the output.
            let _rc = Rc::new(());
            pending::<u32>().await
        });
        let result = ferrio::unblock(move || {
            task.abort();
            // A loop of its own waits there.
            run(task)
        })
        .await;
        assert_eq!(result.unwrap(), Err(Aborted));
    })
    .unwrap();
}

#[test]
fn a_panic_goes_to_who_awaits_the_task_and_leaves_the_loop_running() {
    run(async {
        let task = spawn(async {
            yield_now().await;
            panic!("expected by the test");
        });
        let panic = spawn(async { catch_unwind_async(task).await.map(|_: Result<(), _>| ()) });
        assert_eq!(message(panic.await.unwrap().unwrap_err()), "expected by the test");
        // And with nobody there to await it.
        drop(spawn(async { panic!("expected by the test") }));
        yield_now().await;
        assert_eq!(spawn(async { 1 }).await, Ok(1));
    })
    .unwrap();
}

#[test]
fn a_closed_loop_drops_what_is_spawned() {
    let (event_loop, log) = (stepped(), Log::default());
    drop(event_loop.close());
    let note = Note(log.clone(), "dropped");
    let task = spawn_on(&event_loop, async move { drop(note) });
    assert_eq!(log.take(), ["dropped"]);
    assert_eq!(run(task).unwrap(), Err(Aborted));
    assert!(run_on(&event_loop, async {}).is_err());
}

#[test]
fn tasks_that_wait_for_each_other_end_with_the_loop() {
    let (event_loop, log) = (stepped(), Log::default());
    let mut last = spawn_on(&event_loop, pending::<()>());
    // Long enough to overflow the stack, if each dropped the one that waits for it.
    for _ in 0..if cfg!(miri) { 100 } else { 100_000 } {
        let inner = last;
        let note = log.clone();
        last = spawn_on(&event_loop, async move {
            _ = inner.await;
            note.add("went on");
        });
    }
    turn(&event_loop);
    drop(event_loop.close());
    assert!(last.is_finished() && log.take().is_empty());
}

/// `async-task` aborts the process when a destructor panics.
#[test]
fn destructors_that_panic_end_nothing_but_themselves() {
    run(async {
        // The future's, after it is done: that is its panic.
        let task = spawn({
            let bomb = Bomb;
            poll_fn(move |_| {
                _ = &bomb;
                Poll::Ready(())
            })
        });
        assert_eq!(message(catch_unwind_async(task).await.unwrap_err()), "expected by the test");
        // The future's, as it is aborted.
        let task = spawn(async {
            let _bomb = Bomb;
            pending::<()>().await;
        });
        yield_now().await;
        task.abort();
        assert_eq!(task.await, Err(Aborted));
        // An output that nobody takes.
        drop(spawn(async { Bomb }));
        // The future's, as the loop closes.
        drop(spawn(async {
            let _bomb = Bomb;
            pending::<()>().await;
        }));
        yield_now().await;
    })
    .unwrap();
}
