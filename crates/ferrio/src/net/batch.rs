//! How many to take at once.

/// So many batches of one are filled before two are tried.
const PATIENCE: u32 = 8;

/// How many connections or datagrams are taken in one turn, of those that may be there.
///
/// That there is no more costs a call to find out. So one that comes alone should be taken by one call, and a crowd in
/// few turns: a batch that was filled is followed by one twice the size, one that was not by one of the size that it
/// had. But a batch of one is filled by every lone one, and says little: only the eighth in a row is followed by two.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    size: u32,
    /// How many batches of one were filled since the last that was not.
    alone: u32,
    largest: u32,
}

impl Batch {
    /// Batches of one for the beginning, and never more than `largest`.
    pub const fn new(largest: u32) -> Self {
        Self { size: 1, alone: 0, largest }
    }

    /// How many to take now.
    #[inline]
    pub fn size(self) -> u32 {
        self.size
    }

    /// Takes note that there were as many.
    #[inline]
    pub fn was_filled(&mut self) {
        self.alone += 1;
        if self.size > 1 || self.alone >= PATIENCE {
            self.alone = 0;
            self.size = self.size.saturating_mul(2).min(self.largest);
        }
    }

    /// Takes note that there were only so many.
    pub fn was_not_filled(&mut self, count: u32) {
        (self.size, self.alone) = (count.max(1), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many calls it takes to be given `waiting`, in how many turns.
    fn drain(batch: &mut Batch, mut waiting: u32) -> (u32, u32) {
        let (mut calls, mut turns) = (0, 0);
        while waiting > 0 {
            turns += 1;
            let count = batch.size().min(waiting);
            waiting -= count;
            calls += count;
            if count == batch.size() {
                batch.was_filled();
            } else {
                calls += 1;
                batch.was_not_filled(count);
            }
        }
        (calls, turns)
    }

    #[test]
    fn who_comes_alone_costs_little_more_than_one_call() {
        let mut batch = Batch::new(100);
        let calls: u32 = (0..900).map(|_| drain(&mut batch, 1).0).sum();
        assert_eq!(calls, 1000);
    }

    #[test]
    fn a_crowd_takes_few_turns() {
        let mut batch = Batch::new(100);
        let (calls, turns) = drain(&mut batch, 1000);
        assert!(calls <= 1001 && turns < 25, "{calls} calls in {turns} turns");
    }

    #[test]
    fn a_batch_is_never_larger_than_the_largest() {
        let mut batch = Batch::new(16);
        for _ in 0..100 {
            batch.was_filled();
        }
        assert_eq!(batch.size(), 16);
    }
}
