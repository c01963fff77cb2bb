//! What time it is.

use std::cell::Cell;
use std::time::Duration;

use crate::sys;

/// A point of the monotonic clock, or a span of it, in nanoseconds.
pub type Nanos = i64;

/// Where a loop takes its time from.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Clock {
    /// The machine's monotonic clock.
    #[default]
    Monotonic,
    /// A clock that moves only when it is told to, for tests and simulations. A wait that would last until a deadline
    /// moves it there instead, unless something is ready before: readiness and work from other threads come first, but
    /// the clock does not wait for a thread that is still busy.
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

    /// How long a thread may really wait for `deadline`: a stepped clock waits for nothing.
    pub(super) fn until(&self, deadline: Nanos) -> Duration {
        match self {
            Self::Monotonic => Duration::from_nanos(deadline.saturating_sub(self.now()).max(0).unsigned_abs()),
            Self::Stepped(_) => Duration::ZERO,
        }
    }

    /// Tells the clock that a wait until `deadline` has found nothing: a stepped clock has arrived there.
    pub(super) fn arrive(&self, deadline: Nanos) {
        if let Self::Stepped(now) = self {
            now.set(now.get().max(deadline));
        }
    }
}
