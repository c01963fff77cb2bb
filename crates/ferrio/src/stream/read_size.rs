//! How much room a read gets.
//!
//! A message of 1 KiB should not pay for a buffer of 256 KiB, and one of 100 KiB should not be copied. So a connection
//! begins by reading into a scratch buffer that all share, from which exactly what came is copied out. When a read
//! fills the scratch buffer, the next one gets a buffer of its own, twice the size while reads fill it, half while they
//! leave three quarters of it empty, until the shared buffer is enough again.
//!
//! Who can say at once where the bytes are to go in the end has them received there, unless they are [few](LARGE): with
//! a quarter more room than the read before needed.

/// The size of the shared buffer, in bytes: copying as much costs less than the system call that brought it.
pub const SCRATCH: usize = 64 * 1024;

/// The largest room, in bytes. More would not be filled: a socket's receive buffer seldom holds as much.
pub const LARGEST: usize = 256 * 1024;

/// From so many bytes on a message is worth a buffer of its own. Less is copied in the time that it takes to cut a
/// buffer to what came.
const LARGE: usize = 4096;

/// Where the next read goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Into the shared buffer.
    Scratch,
    /// Into a new buffer of so many bytes, or of as many as there are, which is handed on as it is.
    Own(usize),
}

/// What the reads of one connection were like.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadSize {
    /// The size of its own buffer; 0 while the shared one does.
    own: u32,
    /// What the last read brought.
    last: u32,
}

impl ReadSize {
    /// What to prepare for the next read.
    #[inline]
    pub fn next(self) -> Room {
        if self.own == 0 { Room::Scratch } else { Room::Own(self.own as usize) }
    }

    /// Whether what comes is so much that it had better be received where it is to stay.
    #[inline]
    pub fn is_large(self) -> bool {
        self.own != 0 || self.last as usize >= LARGE
    }

    /// The size of a buffer of its own for what comes, if that is large.
    #[inline]
    pub fn room(self) -> usize {
        if self.own == 0 {
            let last = self.last as usize;
            (last + last / 4).next_power_of_two().clamp(LARGE, SCRATCH)
        } else {
            self.own as usize
        }
    }

    /// Takes note that a read brought `received` bytes.
    #[inline]
    pub fn record(&mut self, received: usize) {
        self.last = u32::try_from(received).unwrap_or(u32::MAX);
        let room = if self.own == 0 { SCRATCH } else { self.own as usize };
        let next = if received >= room {
            (room * 2).min(LARGEST)
        } else if received < room / 4 && self.own != 0 {
            room / 2
        } else {
            return;
        };
        self.own = if next <= SCRATCH { 0 } else { next as u32 };
    }
}
