//! Sleeps of native tasks.

mod common;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use common::{Log, SECOND, secs, stepped, turn};
use ferrio::engine::EventLoop;
use ferrio::{Elapsed, run_on, sleep, spawn, timeout};

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
fn what_the_clock_cannot_count_never_ends() {
    let event_loop = stepped();
    run_on(&event_loop, async {
        let mut endless = pin!(sleep(Duration::MAX));
        let mut is_pending = async || poll_fn(|cx| Poll::Ready(endless.as_mut().poll(cx).is_pending())).await;
        assert!(is_pending().await);
        // The latest time that it can count.
        sleep(Duration::from_nanos(i64::MAX.unsigned_abs())).await;
        assert!(is_pending().await);
    })
    .unwrap();
    assert_eq!(event_loop.clock().now(), i64::MAX);
}
