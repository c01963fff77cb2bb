//! The bytes of a connection: what waits to be sent, when its producer is asked to pause, how much to read at once.
//!
//! | file | noun | question |
//! |---|---|---|
//! | [`write_buffer`](WriteBuffer) | chunks that the socket did not take yet | what goes out next, and how much is left? |
//! | [`flow`](FlowControl) | two marks | must the producer pause, may it go on? |
//! | [`read_size`](ReadSize) | the size of the last reads | how much room does the next one get? |
//! | [`read_buffer`](ReadBuffer) | what was received and is not read yet | what comes next? |
//! | [`separator`](Separators) | what ends a message | where does the first one end? |
//!
//! All of them are plain values: they make no system call and know no socket. Whoever owns the descriptor asks them,
//! acts, and tells them what came of it.

mod flow;
mod read_buffer;
mod read_size;
mod separator;
mod write_buffer;

pub use flow::{FlowControl, Limits, LimitsError};
pub use read_buffer::ReadBuffer;
pub use read_size::{LARGEST, ReadSize, Room, SCRATCH};
pub use separator::{Found, Search, Separators};
pub use write_buffer::{MAX_SLICES, WriteBuffer};
