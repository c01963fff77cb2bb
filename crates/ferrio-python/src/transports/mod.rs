//! Transports: what carries bytes between the kernel and a protocol.
//!
//! | file | noun |
//! |---|---|
//! | [`socket`] | [`SocketTransport`], a connection over a stream socket |
//! | [`datagram`] | [`DatagramTransport`], a datagram socket |
//! | [`pipe`] | [`ReadPipeTransport`] and [`WritePipeTransport`], one end of a pipe each |
//! | [`subprocess`] | [`SubprocessTransport`], a child process and its pipes |
//! | [`server`] | [`Server`], which accepts connections and gives each its transport |
//! | [`transport`] | what is the same in every transport |
//! | [`protocol`] | the protocol of a transport, with the methods that are called for every message |
//! | [`native`] | protocols of our own, which get their data in Rust |
//! | [`endpoint`] | who closes the descriptor |
//! | [`source`] | the descriptor's registration with the reactor |
//! | [`mark`](mod@mark) | the sizes at which a producer pauses and goes on |
//! | [`chunk`] | bytes that wait to be sent |
//! | [`attributes`] | what programs read although it is private |
//! | [`address`] | addresses as Python knows them |
//! | [`log`] | what is said to the log, and of transports that were not closed |
//! | [`callback`] | how a transport's work is run by the loop |
//!
//! A transport is what the reactor queues: one object, with one [`Job`](crate::ffi::runnable::Job) for each reason to
//! run it. There is no handle, and between readiness and the protocol's method there is no Python frame.
//!
//! Every method of a protocol can do anything: close or abort the transport, give it another protocol, write, raise. So
//! nothing is borrowed while one is called, and state is looked at again afterwards.

mod address;
mod attributes;
pub(crate) mod callback;
pub(crate) mod chunk;
mod datagram;
mod endpoint;
pub(crate) mod log;
pub(crate) mod mark;
pub(crate) mod native;
mod pipe;
pub(crate) mod protocol;
mod server;
mod socket;
mod source;
mod subprocess;
mod transport;

pub(crate) use attributes::install;
pub(crate) use datagram::{DatagramTransport, NewDatagramTransport, SendTo};
pub(crate) use endpoint::Endpoint;
pub(crate) use pipe::{NewPipe, ReadPipeTransport, WritePipeTransport};
pub(crate) use server::{Server, SocketFile};
pub(crate) use socket::{Fetched, NewSocketTransport, SendingFile, SocketTransport, Write};
pub(crate) use subprocess::{NewSubprocess, SubprocessTransport};
