//! Groups of native tasks, and `gather`: what ends when, failures, panics, and who may still join.

mod common;

use std::future::{Future, pending};
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Poll};

use common::tasks::{Bomb, Note, catch_unwind_async, message};
use common::{Log, SECOND, secs, stepped, turn};
use ferrio::{Aborted, TaskGroup, gather, run, run_on, sleep, spawn, spawn_on, task_group, timeout, yield_now};

type Result<T> = std::result::Result<T, &'static str>;

/// Notes the beginning, and the end however it comes.
async fn noted(
    log: Log<&'static str>,
    begun: &'static str,
    gone: &'static str,
    rest: impl Future<Output = Result<()>>,
) -> Result<()> {
    log.add(begun);
    let _note = Note(log, gone);
    rest.await
}

async fn fails(error: &'static str) -> Result<()> {
    yield_now().await;
    Err(error)
}

#[test]
fn a_group_waits_for_its_tasks() {
    let (event_loop, log) = (stepped(), Log::default());
    let result = run_on(
        &event_loop,
        task_group(async |group| {
            for seconds in [3, 1, 2] {
                let log = log.clone();
                group.spawn(async move {
                    sleep(secs(seconds)).await;
                    log.add(seconds);
                    Result::Ok(())
                });
            }
            log.add(0);
            Ok("body")
        }),
    );
    assert_eq!(result.unwrap(), Ok("body"));
    assert_eq!(log.take(), [0, 1, 2, 3]);
    assert_eq!(event_loop.clock().now(), 3 * SECOND);
}

#[test]
fn tasks_begin_in_the_next_turn_in_order_of_spawning_and_their_handles_have_their_values() {
    let log = Log::default();
    let sum = run(task_group(async |group| {
        let tasks = [1, 2, 3].map(|id| {
            let log = log.clone();
            group.spawn(async move {
                log.add(id);
                Result::Ok(id)
            })
        });
        log.add(0);
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap();
        }
        Ok(sum)
    }));
    assert_eq!(sum.unwrap(), Ok(6));
    assert_eq!(log.take(), [0, 1, 2, 3]);
}

#[test]
fn a_group_without_tasks_is_its_body() {
    assert_eq!(run(task_group(async |_| Result::Ok(7))).unwrap(), Ok(7));
    assert_eq!(run(task_group(async |_| Result::<()>::Err("body"))).unwrap(), Err("body"));
}

#[test]
fn the_first_error_ends_body_and_tasks_before_it_is_returned() {
    let log = Log::default();
    let result = run(async {
        let result = task_group(async |group| {
            group.spawn(noted(log.clone(), "a", "a is gone", pending()));
            group.spawn(noted(log.clone(), "b", "b is gone", fails("b failed")));
            group.spawn(noted(log.clone(), "c", "c is gone", pending()));
            let _note = Note(log.clone(), "body is gone");
            pending::<Result<()>>().await
        })
        .await;
        log.add("returned");
        result
    });
    assert_eq!(result.unwrap(), Err("b failed"));
    let mut log = log.take();
    assert_eq!(log[..3], ["a", "b", "c"]);
    assert_eq!(log.pop(), Some("returned"));
    log[3..].sort_unstable();
    assert_eq!(log[3..], ["a is gone", "b is gone", "body is gone", "c is gone"]);
}

#[test]
fn an_error_of_the_body_ends_the_tasks() {
    let log = Log::default();
    let result: Result<()> = run(task_group(async |group| {
        group.spawn(noted(log.clone(), "a", "a is gone", pending()));
        yield_now().await;
        Err("body failed")
    }))
    .unwrap();
    assert_eq!(result, Err("body failed"));
    assert_eq!(log.take(), ["a", "a is gone"]);
}

#[test]
fn of_two_that_fail_in_one_turn_the_first_counts_and_the_second_does_not_run() {
    let log = Log::default();
    let result: Result<()> = run(task_group(async |group| {
        group.spawn(async { Result::<()>::Err("first") });
        group.spawn(noted(log.clone(), "second", "", async { Err("second") }));
        Ok(())
    }))
    .unwrap();
    assert_eq!((result, log.take()), (Err("first"), vec![]));
}

#[test]
fn a_panic_ends_the_group_and_goes_on_from_it() {
    let log = Log::default();
    run(async {
        let mut group = Box::pin(task_group(async |group| {
            group.spawn(noted(log.clone(), "a", "a is gone", pending()));
            group.spawn(async {
                yield_now().await;
                resume_unwind(Box::new("a task's"));
                #[allow(unreachable_code, reason = "it says what the task's error is")]
                Result::Ok(())
            });
            pending::<Result<()>>().await
        }));
        let panic = catch_unwind_async(&mut group).await.unwrap_err();
        assert_eq!(message(panic), "a task's");
    })
    .unwrap();
    assert_eq!(log.take(), ["a", "a is gone"]);
}

#[test]
fn a_destructor_that_panics_is_the_tasks_panic() {
    /// Done at once, and dropped after that.
    struct Explosive(Bomb);

    impl Future for Explosive {
        type Output = Result<()>;

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
            Poll::Ready(Ok(()))
        }
    }

    run(async {
        let mut group = Box::pin(task_group(async |group| {
            group.spawn(Explosive(Bomb));
            Ok(())
        }));
        assert_eq!(message(catch_unwind_async(&mut group).await.unwrap_err()), "expected by the test");
    })
    .unwrap();
}

#[test]
fn a_panic_of_the_body_ends_the_tasks() {
    let (event_loop, log) = (stepped(), Log::default());
    run_on(&event_loop, async {
        let mut group = Box::pin(task_group(async |group| {
            group.spawn(noted(log.clone(), "a", "a is gone", pending()));
            yield_now().await;
            resume_unwind(Box::new("the body's"));
            #[allow(unreachable_code, reason = "it says what the body's error is")]
            Result::Ok(())
        }));
        assert_eq!(message(catch_unwind_async(&mut group).await.unwrap_err()), "the body's");
        assert_eq!(log.take(), ["a", "a is gone"]);
    })
    .unwrap();
}

#[test]
fn a_body_whose_destructor_panics_ends_with_the_first_failure() {
    let log = Log::default();
    let result: Result<()> = run(task_group(async |group| {
        group.spawn(noted(log.clone(), "a", "a is gone", pending()));
        group.spawn(fails("a task's"));
        let _bomb = Bomb;
        pending().await
    }))
    .unwrap();
    assert_eq!(result, Err("a task's"));
    assert_eq!(log.take(), ["a", "a is gone"]);
}

#[test]
fn a_task_that_is_aborted_by_itself_leaves_the_group_going() {
    let result: Result<&str> = run(task_group(async |group| {
        let aborted = group.spawn(pending::<Result<()>>());
        let other = group.spawn(async {
            yield_now().await;
            Ok("other")
        });
        aborted.abort();
        assert_eq!(aborted.await, Err(Aborted));
        other.await.map_err(|_| "aborted")
    }))
    .unwrap();
    assert_eq!(result, Ok("other"));
}

#[test]
fn tasks_may_spawn_into_their_group_until_it_ends() {
    let log = Log::default();
    let mut kept = None;
    run(async {
        let result: Result<()> = task_group(async |group| {
            kept = Some(group.clone());
            let (inner, log) = (group.clone(), log.clone());
            group.spawn(async move {
                yield_now().await;
                inner.spawn(async move {
                    log.add("grandchild");
                    Ok(())
                });
                Ok(())
            });
            Ok(())
        })
        .await;
        assert_eq!(result, Ok(()));
        assert_eq!(log.take(), ["grandchild"]);
        let late = kept.take().unwrap().spawn(noted(log.clone(), "late", "late is gone", pending()));
        assert_eq!(late.await, Err(Aborted));
        assert_eq!(log.take(), [""; 0]);
    })
    .unwrap();
}

#[test]
fn who_spawns_while_the_group_fails_spawns_nothing() {
    struct Spawns(TaskGroup<&'static str>, Log<&'static str>);

    impl Drop for Spawns {
        fn drop(&mut self) {
            self.0.spawn(noted(self.1.clone(), "late", "late is gone", pending()));
        }
    }

    let log = Log::default();
    let result: Result<()> = run(task_group(async |group| {
        let spawns = Spawns(group.clone(), log.clone());
        group.spawn(async move {
            let _spawns = spawns;
            pending::<Result<()>>().await
        });
        yield_now().await;
        Err("body failed")
    }))
    .unwrap();
    assert_eq!((result, log.take()), (Err("body failed"), vec![]));
}

#[test]
fn dropping_a_group_ends_its_tasks() {
    let (event_loop, log) = (stepped(), Log::default());
    run_on(&event_loop, async {
        let group = task_group(async |group| {
            group.spawn(noted(log.clone(), "a", "a is gone", pending()));
            pending::<Result<()>>().await
        });
        assert!(timeout(secs(1), group).await.is_err());
        yield_now().await;
        assert_eq!(log.take(), ["a", "a is gone"]);
    })
    .unwrap();
}

#[test]
fn closing_the_loop_drops_a_group_with_all_that_is_in_it() {
    let (event_loop, log) = (stepped(), Log::default());
    let _entered = event_loop.enter();
    let task = spawn_on(&event_loop, {
        let log = log.clone();
        task_group(async move |group| {
            let kept = group.clone();
            group.spawn(noted(log, "a", "a is gone", async move {
                let _kept = kept;
                pending().await
            }));
            pending::<Result<()>>().await
        })
    });
    turn(&event_loop);
    turn(&event_loop);
    drop(event_loop.close());
    assert!(task.is_finished());
    assert_eq!(log.take(), ["a", "a is gone"]);
}

#[test]
fn groups_nest() {
    let result: Result<()> = run(task_group(async |outer| {
        outer.spawn(task_group(async |inner| {
            inner.spawn(fails("inner"));
            pending::<Result<()>>().await
        }));
        pending().await
    }))
    .unwrap();
    assert_eq!(result, Err("inner"));
}

#[test]
fn gather_returns_values_in_the_order_of_its_futures() {
    let event_loop = stepped();
    let after = |seconds| async move {
        sleep(secs(seconds)).await;
        Result::Ok(seconds)
    };
    assert_eq!(run_on(&event_loop, gather([3, 1, 2].map(after))).unwrap(), Ok(vec![3, 1, 2]));
    assert_eq!(event_loop.clock().now(), 3 * SECOND);
    assert_eq!(run(gather(Vec::<std::future::Ready<Result<u8>>>::new())).unwrap(), Ok(vec![]));
}

#[test]
fn gather_ends_all_with_the_first_that_fails() {
    let log = Log::default();
    let result = run(async {
        let bystander = spawn(async {});
        let jobs = [0, 1, 2].map(|id| {
            let log = log.clone();
            noted(log, "begun", "gone", async move {
                yield_now().await;
                if id == 1 { Err("one") } else { pending().await }
            })
        });
        let result = gather(jobs).await;
        assert_eq!(bystander.await, Ok(()));
        result
    });
    assert_eq!(result.unwrap(), Err("one"));
    assert_eq!(log.take(), ["begun", "begun", "begun", "gone", "gone", "gone"]);
}
