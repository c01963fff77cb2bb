//! What time it is.

use std::cell::Cell;
use std::time::Duration;

use crate::sys;

/// A point of the monotonic clock, or a span of it, in nanoseconds.
pub type Nanos = i64;

/// Where a loop takes its time from.
#[derive(Debug, Default)]
pub enum Clock {
    /// The machine's monotonic clock.
    #[default]
    Monotonic,
    /// A clock that moves only when it is told to, for tests and simulations. A wait that would last until a deadline
    /// moves it there instead.
    Stepped(Cell<Nanos>),
}

impl Clock {
    /// Now.
    #[inline]
    pub fn now(&self) -> Nanos {
        match self {
            Self::Monotonic => sys::monotonic(),
            Self::Stepped(now) => now.get(),
        }
    }

    /// How long a thread may really wait for a span of this clock to pass: a stepped clock jumps, and waits for nothing.
    pub(super) fn wait(&self, span: Nanos) -> Duration {
        match self {
            Self::Monotonic => Duration::from_nanos(span.max(0).unsigned_abs()),
            Self::Stepped(now) => {
                now.set(now.get().saturating_add(span.max(0)));
                Duration::ZERO
            }
        }
    }
}
