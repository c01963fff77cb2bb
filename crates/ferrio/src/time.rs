//! Waiting for a time to come.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::engine::{EventLoop, Flow, Nanos, Runnable, TimerKey, Work, current_or_panic};

/// Waits until `duration` has passed on the clock of the current loop.
///
/// The time counts from the first poll: until then nothing is set, and no loop is needed. With
/// [`Duration::ZERO`] it lets the loop take one turn, like [`yield_now`](crate::yield_now()). Timers of equal deadlines
/// fire in the order in which they were set. A duration that the clock cannot count (292 years) never ends.
///
/// # Panics
///
/// When it is first polled on a thread that runs no loop.
///
/// # Cancel safety
///
/// Dropping it cancels the timer and frees it at once; nothing else is lost. Begun anew, the whole time counts again.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// ferrio::run(ferrio::sleep(Duration::from_millis(1)))?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    Sleep(State::New(duration))
}

/// The future of [`sleep`].
#[derive(Debug)]
#[must_use = "a sleep does nothing unless it is awaited"]
pub struct Sleep(State);

#[derive(Debug)]
enum State {
    New(Duration),
    /// Of no length: the turn that it lets pass is on its way.
    Yielded,
    Set {
        alarm: Rc<Alarm>,
        key: TimerKey,
        /// Weak, because the loop reaches the sleep through the timer and the task.
        event_loop: Weak<EventLoop>,
    },
    Done,
}

/// What the timer runs.
#[derive(Debug, Default)]
struct Alarm {
    fired: Cell<bool>,
    /// Of the latest poll.
    waker: RefCell<Option<Waker>>,
}

impl Work for Alarm {
    fn run(&self) -> Flow {
        self.fired.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Flow::Continue
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0 = match &self.0 {
            State::New(Duration::ZERO) => {
                cx.waker().wake_by_ref();
                State::Yielded
            }
            State::New(duration) => {
                let event_loop = current_or_panic();
                let span = Nanos::try_from(duration.as_nanos()).ok();
                let Some(deadline) = span.and_then(|span| event_loop.clock().now().checked_add(span)) else {
                    return Poll::Pending;
                };
                let alarm = Rc::new(Alarm { waker: RefCell::new(Some(cx.waker().clone())), ..Alarm::default() });
                let key = event_loop.push_at(deadline, Runnable::from_rc(Rc::clone(&alarm)));
                State::Set { alarm, key, event_loop: Rc::downgrade(&event_loop) }
            }
            State::Set { alarm, .. } if !alarm.fired.get() => {
                let is_same = alarm.waker.borrow().as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
                if !is_same {
                    // The one before is dropped with nothing borrowed.
                    drop(alarm.waker.replace(Some(cx.waker().clone())));
                }
                return Poll::Pending;
            }
            State::Yielded | State::Set { .. } | State::Done => State::Done,
        };
        if matches!(self.0, State::Done) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let State::Set { key, event_loop, .. } = &self.0
            && let Some(event_loop) = event_loop.upgrade()
        {
            drop(event_loop.cancel_timer(*key));
        }
    }
}
