//! Looking for a moment before sleeping.
//!
//! To put a thread to sleep and to wake it takes longer than what it often waits for: a peer on another core answers a
//! small message in a few microseconds, and the sleep adds two or three times as many to that. What it saves of
//! processor time, the going to sleep and the waking mostly spend. So a wait that may sleep first looks for [`LIMIT`],
//! with the interpreter released as for any wait.
//!
//! That is worth it only where answers come soon, and what comes is the only thing that tells. A look that found
//! nothing costs `LIMIT` of processor time; after it some waits sleep at once, twice as many as after the one before
//! it, up to [`MOST_SKIPPED`]. A look that found something takes one doubling back. So a loop whose peers answer at
//! once looks before every sleep, and one that waits for people, timers or a peer on its own core hardly ever.
//!
//! A wait that a timer ends within `LIMIT` looks until then, whatever came before: a sleep would end later.

use std::time::Duration;

/// How long to look. A little more than a thread needs to be woken: who looks longer would rather have slept.
pub(super) const LIMIT: Duration = Duration::from_micros(20);

/// The most doublings of the pause between looks.
const MOST_FAILURES: u32 = 10;

/// The most waits between two looks, 1023: ten milliseconds of answers that come at once, and far less than a
/// thousandth of the time of those that do not.
const MOST_SKIPPED: u32 = (1 << MOST_FAILURES) - 1;

/// Whether a wait is to look before it sleeps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spin {
    /// How many waits are to sleep at once.
    skip: u32,
    /// How many looks found nothing, less those that did.
    failures: u32,
}

impl Spin {
    /// How long the wait that begins now is to look; nothing if it is to sleep. A wait of `timeout` that is hardly
    /// longer than a look sleeps: nobody hurries it, and its end is to be met.
    pub(super) fn limit(&mut self, timeout: Option<Duration>) -> Option<Duration> {
        if timeout.is_some_and(|timeout| timeout < 2 * LIMIT) {
            return None;
        }
        match self.skip {
            0 => Some(LIMIT),
            _ => {
                self.skip -= 1;
                None
            }
        }
    }

    /// Takes note of whether there was something.
    pub(super) fn record(&mut self, found: bool) {
        if found {
            self.failures = self.failures.saturating_sub(1);
        } else {
            self.failures = (self.failures + 1).min(MOST_FAILURES);
            self.skip = ((1 << self.failures) - 1).min(MOST_SKIPPED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many waits look, if none of the looks finds anything.
    fn looks(spin: &mut Spin, waits: u32) -> usize {
        (0..waits).filter(|_| spin.limit(None).inspect(|_| spin.record(false)).is_some()).count()
    }

    #[test]
    fn looks_that_find_something_go_on() {
        let mut spin = Spin::default();
        for _ in 0..1000 {
            assert!(spin.limit(None).is_some());
            spin.record(true);
        }
    }

    #[test]
    fn looks_that_find_nothing_become_rare() {
        let mut spin = Spin::default();
        assert!(looks(&mut spin, 100_000) < 10 + 100_000 / MOST_SKIPPED as usize + 1);
    }

    #[test]
    fn one_that_finds_something_is_followed_by_another() {
        let mut spin = Spin::default();
        looks(&mut spin, 100_000);
        while spin.limit(None).is_none() {}
        spin.record(true);
        assert!(spin.limit(None).is_some());
    }

    #[test]
    fn short_waits_sleep() {
        assert!(Spin::default().limit(Some(Duration::from_micros(30))).is_none());
        assert!(Spin::default().limit(Some(Duration::from_millis(1))).is_some());
    }
}
