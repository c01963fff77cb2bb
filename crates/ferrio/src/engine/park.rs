//! How the thread waits.

use std::io;
use std::time::{Duration, Instant};

use super::Flow;
use super::spin::{self, Spin};
use crate::sys::{Events, Poller};

/// One wait for readiness, prepared by the loop and carried out by a [`Park`].
///
/// It is `Send`, and borrows nothing that the loop's thread needs meanwhile, so an embedder may release its interpreter
/// around [`now`](Self::now).
#[derive(Debug)]
pub struct Wait<'a> {
    pub(super) poller: &'a Poller,
    pub(super) events: &'a mut Events,
    pub(super) timeout: Option<Duration>,
    /// Who decides whether to look before sleeping; none where nothing would be found. What ends with a look sleeps in
    /// no case.
    pub(super) spin: Option<&'a mut Spin>,
}

impl Wait<'_> {
    /// Whether [`now`](Self::now) can put the thread to sleep.
    #[inline]
    pub fn can_block(&self) -> bool {
        self.timeout.is_none_or(|timeout| !timeout.is_zero())
    }

    /// Waits. An interrupted wait returns as one that found nothing: the loop's turn goes on and comes back here.
    ///
    /// # Errors
    ///
    /// What the operating system reports, other than an interruption.
    #[inline]
    pub fn now(&mut self) -> io::Result<()> {
        let found = self.look().and_then(|found| match found {
            true => Ok(()),
            false => self.poller.wait(self.events, self.timeout),
        });
        match found {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    /// Looks for a moment whether there is something; false if it is to sleep.
    #[inline]
    fn look(&mut self) -> io::Result<bool> {
        let (limit, looks_to_the_end) = match (self.timeout, &mut self.spin) {
            (Some(timeout), _) if timeout.is_zero() => return Ok(false),
            // To sleep and to be woken takes as long.
            (Some(timeout), _) if timeout <= spin::LIMIT => (timeout, true),
            (timeout, Some(spin)) => match spin.limit(timeout) {
                Some(limit) => (limit, false),
                None => return Ok(false),
            },
            (_, None) => return Ok(false),
        };
        let begin = Instant::now();
        let mut passed = Duration::ZERO;
        let found = loop {
            self.poller.wait(self.events, Some(Duration::ZERO))?;
            let found = !self.events.is_empty();
            if found || passed > limit {
                break found;
            }
            std::hint::spin_loop();
            // Before the next look, and not after it: whoever was kept from the processor here for longer than the
            // limit looks once more, and does not take for idle a peer that has answered meanwhile.
            passed = begin.elapsed();
        };
        if looks_to_the_end {
            return Ok(true);
        }
        if let Some(spin) = &mut self.spin {
            spin.record(found);
        }
        self.timeout = self.timeout.map(|timeout| timeout.saturating_sub(passed));
        Ok(found)
    }
}

/// The embedder's way to wait: release what other threads need, wait, take it back, look at what came meanwhile.
///
/// # Examples
///
/// ```
/// use std::io;
/// use ferrio::engine::{Flow, Park, Wait};
///
/// /// Counts the waits in which the thread can have slept.
/// #[derive(Default)]
/// struct Counting(usize);
///
/// impl Park for Counting {
///     fn park(&mut self, mut wait: Wait<'_>) -> io::Result<Flow> {
///         self.0 += usize::from(wait.can_block());
///         wait.now()?;
///         Ok(Flow::Continue)
///     }
/// }
/// ```
pub trait Park {
    /// Carries out the wait.
    ///
    /// [`Flow::Break`] ends the turn before anything runs, for instance because a signal handler raised an exception.
    ///
    /// # Errors
    ///
    /// What [`Wait::now`] reports.
    fn park(&mut self, wait: Wait<'_>) -> io::Result<Flow>;
}

/// Waits, and nothing else: for loops that live in Rust alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlockingPark;

impl Park for BlockingPark {
    fn park(&mut self, mut wait: Wait<'_>) -> io::Result<Flow> {
        wait.now().map(|()| Flow::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_at_once_is_looked_for_to_the_end() {
        let (poller, mut events) = (Poller::new().unwrap(), Events::with_capacity(1));
        let mut looks = |timeout| Wait { poller: &poller, events: &mut events, timeout, spin: None }.look().unwrap();
        assert!(looks(Some(Duration::from_nanos(1))));
        assert!(looks(Some(spin::LIMIT)));
        assert!(!looks(Some(2 * spin::LIMIT)));
        assert!(!looks(Some(Duration::ZERO)));
        assert!(!looks(None));
    }
}
