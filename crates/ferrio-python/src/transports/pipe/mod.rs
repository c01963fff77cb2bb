//! Pipe transports: one end of a pipe, a FIFO, a terminal, or of a socket that is used as one.
//!
//! | file | noun |
//! |---|---|
//! | [`end`] | what both kinds have: the descriptor, its registration, the protocol, and how it begins and ends |
//! | [`read`] | [`ReadPipeTransport`] |
//! | [`write`](mod@write) | [`WritePipeTransport`] |
//!
//! The transport closes the object that it was given, and till then the object owns the descriptor. Two transports can
//! have the two sides of one descriptor, a terminal's for one. The kernel takes a number once; so the second transport
//! makes a duplicate for itself.
//!
//! # States
//!
//! | state | told by | reads, writes | ends with |
//! |---|---|---|---|
//! | open | neither `closing` nor `lost` | yes | `close()`, `abort()`, an error, the other end's closing |
//! | closing | `closing` | what is buffered is written | the buffer is empty, `abort()`, an error |
//! | lost | `lost` | no | the ready queue, which calls `connection_lost` |
//! | closed | `closed` | no | |
//!
//! Nothing goes up in this table.

mod end;
mod read;
mod write;

pub(crate) use end::NewPipe;
pub(crate) use read::ReadPipeTransport;
pub(crate) use write::WritePipeTransport;
