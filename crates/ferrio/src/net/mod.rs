//! Sockets and pipes: the calls that move bytes and accept connections, and the addresses in between.
//!
//! | file | noun |
//! |---|---|
//! | [`socket`] | one function a system call, with "would block" told apart from errors |
//! | [`pipe`] | the same for what is read and written like a file |
//! | [`batch`](Batch) | how many connections or datagrams to take at once |
//! | [`address`](Address) | where a socket is, in as few bytes as its family needs |
//!
//! Every socket here is non-blocking. Nothing waits: that is the reactor's business, and the caller's to arrange.

mod address;
mod batch;
pub mod pipe;
pub mod socket;

pub use address::Address;
pub use batch::Batch;
pub use pipe::PipeKind;
pub use socket::Transfer;
