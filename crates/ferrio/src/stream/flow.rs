//! When a producer is asked to pause, and when it may go on.

use std::fmt;

/// The two marks, in bytes: above `high` the producer pauses, at `low` or below it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    high: usize,
    low: usize,
}

/// Marks that are not `high >= low >= 0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitsError {
    /// What `high` would be.
    pub high: i64,
    /// What `low` would be.
    pub low: i64,
}

impl fmt::Display for LimitsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "high ({}) must be >= low ({}) must be >= 0", self.high, self.low)
    }
}

impl std::error::Error for LimitsError {}

impl Limits {
    /// Marks of which either can be left out: `high` is 64 KiB, or four times `low`; `low` is a quarter of `high`.
    ///
    /// # Errors
    ///
    /// When they are out of order or negative.
    pub fn new(high: Option<i64>, low: Option<i64>) -> Result<Self, LimitsError> {
        let high = high.unwrap_or_else(|| low.map_or(64 * 1024, |low| low.saturating_mul(4)));
        let low = low.unwrap_or_else(|| high.div_euclid(4));
        match (usize::try_from(high), usize::try_from(low)) {
            (Ok(unsigned_high), Ok(unsigned_low)) if high >= low => Ok(Self { high: unsigned_high, low: unsigned_low }),
            _ => Err(LimitsError { high, low }),
        }
    }

    /// The mark above which the producer pauses.
    pub fn high(self) -> usize {
        self.high
    }

    /// The mark at which the producer goes on.
    pub fn low(self) -> usize {
        self.low
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { high: 64 * 1024, low: 16 * 1024 }
    }
}

/// Whether a producer is paused, by the size of what it has produced.
///
/// # Examples
///
/// ```
/// use ferrio::stream::{FlowControl, Limits};
///
/// let mut flow = FlowControl::default();
/// flow.set_limits(Limits::new(Some(1000), Some(100))?);
/// assert!(!flow.grown(1000));
/// assert!(flow.grown(1001), "the producer is to pause");
/// assert!(!flow.shrunk(101));
/// assert!(flow.shrunk(100), "it may go on");
/// # Ok::<(), ferrio::stream::LimitsError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct FlowControl {
    limits: Limits,
    paused: bool,
}

impl FlowControl {
    /// The marks.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Moves the marks. [`grown`](Self::grown) is to be asked afterwards: a lower mark can pause the producer.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Whether the producer was told to pause.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// To be asked when there is more; true if the producer is to be told to pause now.
    #[must_use]
    pub fn grown(&mut self, size: usize) -> bool {
        size > self.limits.high && !std::mem::replace(&mut self.paused, true)
    }

    /// To be asked when there is less; true if the producer is to be told to go on now.
    #[must_use]
    pub fn shrunk(&mut self, size: usize) -> bool {
        size <= self.limits.low && std::mem::replace(&mut self.paused, false)
    }
}
