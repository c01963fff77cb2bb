//! Tasks of Rust futures: run, spawn, abort, panics, sleeps and timeouts, and wake-ups from other threads.

#![allow(clippy::unwrap_used, reason = "helpers outside of a test function unwrap like the tests do")]

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use common::{Log, SECOND, call, secs, stepped, turn};
use ferrio::engine::{BlockingPark, EventLoop, Flow};
use ferrio::{Aborted, Elapsed, run, run_on, sleep, spawn, spawn_on, timeout, yield_now};

/// Adds to the log when it is dropped.
struct Note(Log<&'static str>, &'static str);

impl Drop for Note {
    fn drop(&mut self) {
        self.0.add(self.1);
    }
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("expected by the test");
    }
}

/// Waits for a flag that another thread sets, the plain way: a lock and a waker.
#[derive(Clone, Default)]
struct Flag(Arc<Mutex<(bool, Option<Waker>)>>);

impl Flag {
    fn set(&self) {
        let waker = {
            let mut state = self.0.lock().unwrap();
            state.0 = true;
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            let mut state = self.0.lock().unwrap();
            if state.0 {
                return Poll::Ready(());
            }
            state.1 = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn waker(&self) -> Waker {
        self.0.lock().unwrap().1.clone().unwrap()
    }
}

fn message(panic: Box<dyn std::any::Any + Send>) -> &'static str {
    panic.downcast_ref::<&str>().unwrap()
}

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

async fn catch_unwind_async<F: Future + Unpin>(mut future: F) -> thread::Result<F::Output> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| std::pin::Pin::new(&mut future).poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
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
fn tasks_that_wait_for_each_other_end_with_the_loop() {
    let (event_loop, log) = (stepped(), Log::default());
    let mut last = spawn_on(&event_loop, pending::<()>());
    // Long enough to overflow the stack, if each dropped the one that waits for it.
    for _ in 0..100_000 {
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

#[test]
fn a_wake_up_from_another_thread_reaches_a_sleeping_loop() {
    run(async {
        let flag = Flag::default();
        let setter = thread::spawn({
            let flag = flag.clone();
            move || flag.set()
        });
        // Not Send, and yet woken from there.
        let local = Rc::new(Cell::new(0));
        let task = spawn({
            let (flag, local) = (flag.clone(), Rc::clone(&local));
            async move {
                flag.wait().await;
                local.set(1);
            }
        });
        task.await.unwrap();
        assert_eq!(local.get(), 1);
        setter.join().unwrap();
    })
    .unwrap();
}

#[test]
fn many_wake_ups_from_many_threads_lose_none() {
    const ROUNDS: usize = 200;
    run(async {
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let (send, receive) = mpsc::channel::<Flag>();
                let setter = thread::spawn(move || receive.into_iter().for_each(|flag| flag.set()));
                let task = spawn(async move {
                    for _ in 0..ROUNDS {
                        let flag = Flag::default();
                        send.send(flag.clone()).unwrap();
                        flag.wait().await;
                    }
                });
                (task, setter)
            })
            .collect();
        for (task, setter) in tasks {
            task.await.unwrap();
            setter.join().unwrap();
        }
    })
    .unwrap();
}

#[test]
fn a_waker_that_outlives_the_loop_does_nothing() {
    let (flag, log) = (Flag::default(), Log::default());
    run(async {
        drop(spawn({
            let (flag, note) = (flag.clone(), Note(log.clone(), "dropped"));
            async move {
                let _note = note;
                flag.wait().await;
                unreachable!("the loop is closed");
            }
        }));
        yield_now().await;
    })
    .unwrap();
    assert_eq!(log.take(), ["dropped"]);
    let waker = flag.waker();
    thread::spawn(move || {
        waker.wake_by_ref();
        drop(waker);
    })
    .join()
    .unwrap();
    flag.set();
}

/// A step that is in another thread's hands when the loop closes holds a future that must not be dropped there.
#[test]
fn no_future_is_dropped_in_another_thread() {
    struct Local(thread::ThreadId, Rc<()>);

    impl Drop for Local {
        fn drop(&mut self) {
            assert_eq!(self.0, thread::current().id());
            _ = Rc::strong_count(&self.1);
        }
    }

    for _ in 0..200 {
        let flag = Flag::default();
        let (started, start) = mpsc::channel();
        let setter = thread::spawn({
            let flag = flag.clone();
            move || {
                start.recv().unwrap();
                flag.set();
            }
        });
        run(async {
            drop(spawn({
                let (flag, local) = (flag.clone(), Local(thread::current().id(), Rc::default()));
                async move {
                    let _local = local;
                    flag.wait().await;
                }
            }));
            yield_now().await;
            // The wake-up and the closing meet somewhere.
            started.send(()).unwrap();
        })
        .unwrap();
        setter.join().unwrap();
    }
}

#[test]
fn sleeps_end_in_order_of_their_deadlines() {
    let (event_loop, log) = (stepped(), Log::default());
    run_on(&event_loop, async {
        let tasks: Vec<_> = [3, 1, 2, 1]
            .into_iter()
            .enumerate()
            .map(|(index, seconds)| {
                let log = log.clone();
                spawn(async move {
                    sleep(secs(seconds)).await;
                    log.add((seconds, index));
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    })
    .unwrap();
    assert_eq!(log.take(), [(1, 1), (1, 3), (2, 2), (3, 0)]);
    assert_eq!(event_loop.clock().now(), 3 * SECOND);
}

#[test]
fn a_sleep_counts_from_its_first_poll() {
    let event_loop = stepped();
    let nap = sleep(secs(5));
    run_on(&event_loop, async {
        sleep(secs(1)).await;
        nap.await;
    })
    .unwrap();
    assert_eq!(event_loop.clock().now(), 6 * SECOND);
}

#[test]
fn a_sleep_of_no_length_is_one_turn() {
    let (event_loop, log) = (stepped(), Log::default());
    run_on(&event_loop, async {
        EventLoop::current().unwrap().push(log.runnable("other"));
        sleep(Duration::ZERO).await;
        log.add("main");
    })
    .unwrap();
    assert_eq!(log.take(), ["other", "main"]);
    assert_eq!(event_loop.stats().turns(), 2);
}

#[test]
fn a_dropped_sleep_leaves_no_timer() {
    let (event_loop, seen) = (stepped(), Cell::new(0));
    run_on(&event_loop, async {
        {
            let mut nap = std::pin::pin!(sleep(secs(3600)));
            assert!(poll_fn(|cx| Poll::Ready(nap.as_mut().poll(cx))).await.is_pending());
            event_loop.for_each(|_| seen.set(seen.get() + 1));
            assert_eq!(seen.take(), 1);
        }
        event_loop.for_each(|_| seen.set(seen.get() + 1));
        assert_eq!(seen.take(), 0);
    })
    .unwrap();
    assert_eq!(event_loop.clock().now(), 0);
}

#[test]
fn a_sleep_wakes_who_polled_it_last() {
    struct Counter(Mutex<u32>);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            *self.0.lock().unwrap() += 1;
        }
    }

    let event_loop = stepped();
    let _entered = event_loop.enter();
    let (first, second) = (Arc::new(Counter(Mutex::new(0))), Arc::new(Counter(Mutex::new(0))));
    let mut nap = std::pin::pin!(sleep(secs(1)));
    for counter in [&first, &second, &second] {
        let waker = Waker::from(Arc::clone(counter));
        assert!(nap.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!(Arc::strong_count(&first), 1);
    turn(&event_loop);
    assert_eq!((*first.0.lock().unwrap(), *second.0.lock().unwrap()), (0, 1));
    assert!(nap.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

#[test]
fn a_sleep_longer_than_the_clock_is_not_a_short_one() {
    let event_loop = stepped();
    run_on(&event_loop, async {
        assert_eq!(timeout(secs(7), sleep(Duration::MAX)).await, Err(Elapsed));
    })
    .unwrap();
    assert_eq!(event_loop.clock().now(), 7 * SECOND);
}

#[test]
fn a_timeout_drops_the_future_before_it_returns() {
    let (event_loop, log) = (stepped(), Log::default());
    run_on(&event_loop, async {
        let note = Note(log.clone(), "dropped");
        let slow = async move {
            let _note = note;
            pending::<()>().await;
        };
        assert_eq!(timeout(secs(10), slow).await, Err(Elapsed));
        log.add("after");
    })
    .unwrap();
    assert_eq!(log.take(), ["dropped", "after"]);
    assert_eq!(event_loop.clock().now(), 10 * SECOND);
}

#[test]
fn a_future_in_time_is_not_held_up_by_its_timeout() {
    let event_loop = stepped();
    run_on(&event_loop, async {
        let quick = async {
            sleep(secs(1)).await;
            42
        };
        assert_eq!(timeout(secs(10), quick).await, Ok(42));
    })
    .unwrap();
    assert_eq!(event_loop.clock().now(), SECOND);
}

#[test]
fn when_both_are_due_the_future_wins() {
    let event_loop = stepped();
    run_on(&event_loop, async {
        assert_eq!(timeout(secs(1), sleep(secs(1))).await, Ok(()));
        assert_eq!(timeout(Duration::ZERO, async { 1 }).await, Ok(1));
        assert_eq!(timeout(Duration::ZERO, yield_now()).await, Ok(()));
        assert_eq!(timeout(Duration::ZERO, pending::<()>()).await, Err(Elapsed));
    })
    .unwrap();
}

#[test]
fn without_a_loop_there_is_a_message() {
    let panic = catch_unwind(|| drop(spawn(async {}))).unwrap_err();
    assert_eq!(message(panic), "no ferrio loop runs on this thread");
    let nested = catch_unwind(|| run(async { run(async {}) })).unwrap_err();
    assert!(message(nested).contains("runs a loop already"));
}

#[test]
fn errors_become_io_errors() {
    assert_eq!(std::io::Error::from(Elapsed).kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(std::io::Error::from(Aborted).to_string(), "the task was aborted");
    assert_eq!(Elapsed.to_string(), "the time was up");
}

/// Both faces of the engine: what an embedder pushes wakes a native task, which pushes for the embedder.
#[test]
fn an_embedders_callback_and_a_native_task_wake_each_other() {
    let (event_loop, log) = (stepped(), Log::default());
    let flag = Flag::default();
    let task = spawn_on(&event_loop, {
        let (flag, log) = (flag.clone(), log.clone());
        async move {
            log.add("task waits");
            flag.wait().await;
            log.add("task goes on");
            EventLoop::current().unwrap().push(log.runnable("callback of the task"));
        }
    });
    event_loop.push_at(
        SECOND,
        call({
            let log = log.clone();
            move || {
                log.add("callback wakes");
                flag.set();
            }
        }),
    );
    let _entered = event_loop.enter();
    while log.len() < 4 {
        assert_eq!(event_loop.run_once(&mut BlockingPark).unwrap(), Flow::Continue);
    }
    assert!(task.is_finished());
    assert_eq!(log.take(), ["task waits", "callback wakes", "task goes on", "callback of the task"]);
}
