//! What a turn sends can leave at its end, and what a callback sends in pieces when that ends.
//!
//! To send to a peer that sleeps on the same machine is to wake it, and that can take several times as long as the rest
//! of the call: 10 to 15 microseconds of the sender's time on a virtual machine, beside two or three. A server whose
//! handlers take some tens of microseconds and that answers fifty clients of one process wakes this for every answer:
//! it has read the one that was there, and sleeps again before the next. Answers that leave together wake it once. And
//! what handlers send piece by piece goes by one call.
//!
//! But a callback that blocks, or that ends the process, keeps what others have left for later, and a turn's first
//! answer waits for its last. So [`Pace`] measures some sends, tries the end of the turn now and then, and stays with
//! it where that costs clearly less, which it does where sends are dear. Slow callbacks count against it: there a send
//! is nothing, and the wait much. A turn keeps nothing for longer than [`LONGEST`] and one callback, and the only thing
//! that a turn has to send leaves at once.
//!
//! Pieces need no clock. One call instead of two is less work wherever the other end is, and the end of a callback is
//! soon. So once [`SAMPLE`] times something more was sent in one callback, who did so in its last callback keeps all
//! that it sends until its next one ends.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use super::Runnable;

/// How long a turn keeps what it has to send.
const LONGEST: Duration = Duration::from_millis(2);

/// What one send counts for at most: the thread may have been kept from the processor meanwhile.
const MOST: Duration = Duration::from_micros(50);

/// So many measured sends make a mean.
const SAMPLE: u32 = 64;

/// After so many means in a row in favour of the end of the turn it is compared again.
const TRUSTED: u32 = 128;

/// After a trial in vain, so many sends go by before the next; twice as many after each in a row.
const PAUSE: u32 = 1024;

/// The most doublings of the pause.
const MOST_FAILURES: u32 = 10;

/// When what a callback sends leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendTime {
    /// At once, when the callback ends, or when the turn ends, by what costs less.
    #[default]
    Measured,
    /// At once.
    AtOnce,
    /// When the callback ends, always.
    CallbackEnd,
    /// When the turn ends, always.
    TurnEnd,
}

/// Whether it costs less to send at once or at the end of the turn.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    defers: bool,
    /// So many sends go by before one is measured.
    skip: u32,
    /// How many sends of the present way were measured since the last mean, and how long they took.
    count: u32,
    spent: Duration,
    /// What a send at once costs.
    at_once: Duration,
    /// What one at the end of the turn costs: a quarter of it is the last mean.
    at_end: Option<Duration>,
    /// Means in favour of the end of the turn since the last comparison.
    trusted: u32,
    /// Trials in vain, in a row.
    failures: u32,
}

impl Pace {
    /// Whether the next send, which is made at once, is to be measured.
    #[inline]
    fn measures(&mut self) -> bool {
        let measures = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        measures
    }

    /// Takes note of what `count` sends took, made in the present way.
    fn record(&mut self, count: u32, spent: Duration) {
        self.count = self.count.saturating_add(count);
        self.spent += spent.min(MOST * count);
        if self.count < SAMPLE {
            return;
        }
        let mean = std::mem::take(&mut self.spent) / std::mem::take(&mut self.count);
        if !self.defers {
            (self.at_once, self.at_end, self.trusted, self.defers) = (mean, None, 0, true);
            return;
        }
        let at_end = self.at_end.map_or(mean, |before| (before * 3 + mean) / 4);
        self.at_end = Some(at_end);
        if at_end > self.at_once * 3 / 4 {
            self.fail();
            return;
        }
        self.failures = 0;
        self.trusted += 1;
        if self.trusted == TRUSTED {
            // What had got used to one way gets used to the other first.
            (self.defers, self.skip) = (false, SAMPLE);
        }
    }

    /// Sends at once, and for a while asks for nothing else.
    fn fail(&mut self) {
        let failures = (self.failures + 1).min(MOST_FAILURES);
        *self = Self { skip: PAUSE << self.failures, failures, ..Self::default() };
    }
}

/// Until when something is kept.
#[derive(Clone, Copy, Debug, Default)]
enum Kept {
    #[default]
    Nothing,
    UntilCallbackEnds,
    /// And since when.
    UntilTurnEnds(Instant),
}

/// What the present turn, or callback, has to send when it ends.
#[derive(Debug, Default)]
pub(super) struct Burst {
    time: Cell<SendTime>,
    pace: Cell<Pace>,
    kept: Cell<Kept>,
    /// What sends it.
    deferred: RefCell<Vec<Runnable>>,
    /// How many sends that stands for.
    count: Cell<u32>,
    /// How often something more was sent in one callback.
    again: Cell<u32>,
}

impl Burst {
    pub(super) fn set_time(&self, time: SendTime) {
        self.time.set(time);
        self.pace.set(Pace { defers: time == SendTime::TurnEnd, ..Pace::default() });
        self.again.set(if time == SendTime::CallbackEnd { SAMPLE } else { 0 });
    }

    /// Whether what is sent now is rather to be deferred, in a turn in which so many are `left` to run; `in_pieces`, by
    /// somebody who may send more in this callback.
    #[inline]
    pub(super) fn defers(&self, left: usize, in_pieces: bool) -> bool {
        self.defers_to_turn_end(left) || in_pieces && self.gathers() || self.time.get() == SendTime::CallbackEnd
    }

    #[inline]
    fn defers_to_turn_end(&self, left: usize) -> bool {
        self.pace.get().defers && (left != 0 || !self.is_empty() || self.time.get() == SendTime::TurnEnd)
    }

    /// Whether pieces are kept until the callback ends.
    #[inline]
    fn gathers(&self) -> bool {
        self.again.get() >= SAMPLE
    }

    /// Takes note that somebody sends something for another time in one callback.
    #[inline]
    pub(super) fn sends_again(&self) {
        if self.time.get() == SendTime::Measured {
            self.again.set(self.again.get().saturating_add(1));
        }
    }

    /// Sends by `send` at once, in a turn in which so many are `left` to run.
    #[inline]
    pub(super) fn send<R>(&self, left: usize, send: impl FnOnce() -> R) -> R {
        if left == 0 || !self.measures() {
            return send();
        }
        let begin = Instant::now();
        let sent = send();
        self.change(|pace| pace.record(1, begin.elapsed()));
        sent
    }

    #[inline]
    fn measures(&self) -> bool {
        let mut pace = self.pace.get();
        let measures = !pace.defers && pace.measures();
        self.pace.set(pace);
        measures && self.time.get() == SendTime::Measured
    }

    /// Has `runnable` send at the end of the turn in which so many are `left` to run, or of the callback.
    pub(super) fn defer(&self, left: usize, runnable: Runnable) {
        if self.is_empty() {
            self.kept.set(match self.defers_to_turn_end(left) {
                true => Kept::UntilTurnEnds(Instant::now()),
                false => Kept::UntilCallbackEnds,
            });
        }
        self.deferred.borrow_mut().push(runnable);
        self.count.set(self.count.get().saturating_add(1));
    }

    /// Takes note that one of those that will send has more to send.
    #[inline]
    pub(super) fn deferred_more(&self) {
        // What is gathered would have been one send at once as well.
        if !self.gathers() {
            self.count.set(self.count.get().saturating_add(1));
        }
    }

    /// Whether nothing is deferred.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.kept.get(), Kept::Nothing)
    }

    /// Whether what is deferred is to be sent when a callback has ended: it was kept until then, or for long enough.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        match self.kept.get() {
            Kept::Nothing => false,
            Kept::UntilCallbackEnds => true,
            Kept::UntilTurnEnds(since) => since.elapsed() > LONGEST,
        }
    }

    /// Takes out what sends, for the caller to run by `run`, in a turn in which so many are `left` to run.
    #[cold]
    pub(super) fn end(&self, left: usize, run: impl FnOnce(Vec<Runnable>)) {
        let (kept, deferred, count) = (self.kept.take(), self.deferred.take(), self.count.take());
        let Kept::UntilTurnEnds(since) = kept else { return self.send(left, || run(deferred)) };
        let begin = Instant::now();
        run(deferred);
        if self.time.get() == SendTime::Measured {
            self.change(|pace| match begin - since > 2 * LONGEST {
                true => pace.fail(),
                false => pace.record(count, begin.elapsed()),
            });
        }
    }

    /// Takes out what sends, for the caller to drop.
    pub(super) fn take(&self) -> Vec<Runnable> {
        self.kept.take();
        self.deferred.take()
    }

    /// Shows what sends to `visit`, which must not send.
    pub(super) fn for_each(&self, visit: impl FnMut(&Runnable)) {
        self.deferred.borrow().iter().for_each(visit);
    }

    fn change(&self, change: impl FnOnce(&mut Pace)) {
        let mut pace = self.pace.get();
        change(&mut pace);
        self.pace.set(pace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Duration = Duration::from_micros(2);
    const DEAR: Duration = Duration::from_micros(12);

    /// Makes `sends`, which take `at_once` or `at_end`; returns how many were made at once.
    fn at_once(pace: &mut Pace, sends: u32, at_once: Duration, at_end: Duration) -> u32 {
        let mut count = 0;
        for _ in 0..sends {
            if pace.defers {
                pace.record(1, at_end);
            } else {
                count += 1;
                if pace.measures() {
                    pace.record(1, at_once);
                }
            }
        }
        count
    }

    #[test]
    fn dear_sends_are_made_at_the_end() {
        let mut pace = Pace::default();
        let found_out = at_once(&mut pace, 100_000, DEAR, CHEAP);
        assert!(found_out < 3000, "{found_out} at once");
        // Now and then it is compared again.
        assert!(at_once(&mut pace, 100_000, DEAR, CHEAP) > 1000);
    }

    #[test]
    fn the_end_is_left_when_sends_have_become_cheap() {
        let mut pace = Pace::default();
        at_once(&mut pace, 10_000, DEAR, CHEAP);
        assert!(pace.defers);
        at_once(&mut pace, 10_000, CHEAP, CHEAP);
        assert!(!pace.defers);
    }

    #[test]
    fn trials_in_vain_become_rare() {
        for at_end in [DEAR, DEAR * 4 / 5] {
            let mut pace = Pace::default();
            at_once(&mut pace, 1_000_000, DEAR, at_end);
            assert!(1_000_000 - at_once(&mut pace, 1_000_000, DEAR, at_end) < 1000);
        }
    }

    #[test]
    fn one_measure_counts_for_little() {
        let mut pace = Pace::default();
        pace.record(1, Duration::from_secs(1));
        at_once(&mut pace, 10_000, CHEAP, CHEAP);
        assert!(!pace.defers);
        at_once(&mut pace, 10_000, DEAR, CHEAP);
        pace.record(1, Duration::from_secs(1));
        at_once(&mut pace, SAMPLE, DEAR, CHEAP);
        assert!(pace.defers);
    }

    #[test]
    fn a_slow_turn_ends_it() {
        let burst = Burst::default();
        burst.change(|pace| pace.defers = true);
        assert!(burst.defers(1, false));
        burst.kept.set(Kept::UntilTurnEnds(Instant::now().checked_sub(3 * LONGEST).unwrap()));
        assert!(burst.is_due());
        burst.end(0, drop);
        assert!(burst.is_empty() && !burst.defers(1, false));
    }

    #[test]
    fn the_only_one_of_a_turn_is_not_deferred() {
        let burst = Burst::default();
        burst.change(|pace| pace.defers = true);
        assert!(!burst.defers(0, false));
        // But the last of several is.
        burst.kept.set(Kept::UntilTurnEnds(Instant::now()));
        assert!(burst.defers(0, false));
    }

    #[test]
    fn who_sends_in_pieces_keeps_them_until_the_callback_ends() {
        let burst = Burst::default();
        for _ in 1..SAMPLE {
            burst.sends_again();
        }
        assert!(!burst.defers(0, true));
        burst.sends_again();
        assert!(burst.defers(0, true) && !burst.defers(0, false));
        assert!(!burst.is_due());
        burst.kept.set(Kept::UntilCallbackEnds);
        assert!(burst.is_due());
        burst.end(0, drop);
        assert!(burst.is_empty() && !burst.is_due());
    }

    #[test]
    fn gathered_sends_are_measured_as_others_are() {
        let burst = Burst::default();
        burst.again.set(SAMPLE);
        for _ in 0..SAMPLE {
            burst.kept.set(Kept::UntilCallbackEnds);
            burst.end(1, drop);
        }
        // That was the mean of what is sent at once, and the end of the turn is tried.
        assert!(burst.pace.get().defers && burst.defers(1, false));
    }
}
