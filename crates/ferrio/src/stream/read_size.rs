//! How much room a read gets.
//!
//! A message of 1 KiB should not pay for a buffer of 256 KiB, and one of 100 KiB should not be copied. So a connection
//! begins by reading into a scratch buffer that all share, from which exactly what came is copied out. When a read fills
//! the scratch buffer, the next one gets a buffer of its own, twice the size while reads fill it, half while they leave
//! three quarters of it empty, until the shared buffer is enough again.

/// The size of the shared buffer, in bytes: copying as much costs less than the system call that brought it.
pub const SCRATCH: usize = 64 * 1024;

/// The largest room, in bytes. More would not be filled: a socket's receive buffer seldom holds as much.
pub const LARGEST: usize = 256 * 1024;

/// Where the next read goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Into the shared buffer.
    Scratch,
    /// Into a new buffer of so many bytes, which is handed on as it is.
    Own(usize),
}

/// What the reads of one connection were like.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadSize {
    /// The size of its own buffer; 0 while the shared one does.
    own: u32,
}

impl ReadSize {
    /// What to prepare for the next read.
    #[inline]
    pub fn next(self) -> Room {
        if self.own == 0 { Room::Scratch } else { Room::Own(self.own as usize) }
    }

    /// Whether the shared buffer was too small lately.
    #[inline]
    pub fn is_large(self) -> bool {
        self.own != 0
    }

    /// Takes note that a read brought `received` bytes.
    #[inline]
    pub fn record(&mut self, received: usize) {
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
