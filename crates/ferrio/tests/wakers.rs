//! Wake-ups of native tasks: from other threads, from an embedder's callbacks, and after the loop has closed.

mod common;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

use common::tasks::{Flag, Note};
use common::{Log, SECOND, call, stepped};
use ferrio::engine::{BlockingPark, EventLoop, Flow};
use ferrio::{run, spawn, spawn_on, yield_now};

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
