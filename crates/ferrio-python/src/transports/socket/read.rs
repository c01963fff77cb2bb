//! From readiness to the protocol.
//!
//! # Budget of a received message
//!
//! One `epoll_wait`, which may be shared by many connections, one `recv`, and what the protocol does: with an answer
//! that the kernel takes at once, one `send`. One allocation: the `bytes`, of exactly the message's size. The context
//! is entered by two C calls, the protocol's method was looked up when the first message came. There is no handle, no
//! argument tuple, and no `epoll_ctl`.
//!
//! Messages of more than [`SCRATCH`] bytes are received into a `bytes` of their own: one allocation too, and no copy.
//! One more system call asks how much there is. To shrink a larger `bytes` to what came would save it, but then the
//! allocator gives memory back to the kernel, and asks for it again for the next message, page by page: a websocket's
//! message of 200 KB took a third longer so. [`bytes::keep_memory`] is about the same.
//!
//! A protocol of ours ([`native`](crate::transports::native)) takes the bytes out of the shared memory itself: no
//! allocation here, and no call into Python.
//!
//! Large messages are not received here when a coroutine waits for as much: it is woken, and receives by itself, into
//! the `bytes` that it returns. Nothing is copied so; and what is received for fifty connections in one turn, before
//! any of it is used in the next, has left the processor's cache by then, and lies in memory that the allocator had to
//! ask the kernel for. What comes behind that is received by the same call, for the next `read`: with a second one the
//! kernel would tell the peer of room twice.

use std::io;
use std::os::fd::BorrowedFd;

use ferrio::engine::{Direction, Flow};
use ferrio::net::{Transfer, socket};
use ferrio::stream::{LARGEST, Room, SCRATCH};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::SocketTransport;
use crate::ffi::buffer::with_bytes_mut;
use crate::ffi::bytes;
use crate::ffi::call::call1;
use crate::ffi::cell::GilCell;
use crate::ffi::runnable::Job;
use crate::os_error::os_error;
use crate::transports::callback;
use crate::transports::native::{Native, Ran};
use crate::transports::protocol::Receiver;
use crate::transports::transport::DescriptorTransport;

/// Where messages are received, all connections' in turn. Nothing is in it between two calls.
static SHARED: GilCell<[u8; LARGEST]> = GilCell::new([0; LARGEST]);

/// The same for protocols that use what was received while Python code runs; none while one does.
static LENT: GilCell<Option<Box<[u8]>>> = GilCell::new(None);

/// How large a block the allocator is to keep when there are large messages, in bytes.
const KEPT: usize = 1024 * 1024;

/// A transport that has input, an end of file or an error to read.
pub(super) struct ReadReady;

impl Job for ReadReady {
    type Class = SocketTransport;

    #[inline]
    fn run(this: &Bound<'_, SocketTransport>) -> Flow {
        let (py, transport) = (this.py(), this.get());
        callback::run_of(transport.core(py), transport, this.as_any(), || SocketTransport::read_ready(this))
    }
}

/// What a coroutine has received by itself.
pub(crate) struct Fetched<'py> {
    /// What it asked for.
    pub(crate) data: Bound<'py, PyBytes>,
    /// What came behind it.
    pub(crate) rest: Option<Bound<'py, PyBytes>>,
}

impl SocketTransport {
    /// Has the reactor tell of input, unless it does.
    pub(super) fn watch_reads(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        transport.source.watch::<ReadReady>(transport.core(py), Direction::Read, this)
    }

    fn read_ready(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let flags = transport.flags.get(py);
        // What became ready may have been given up by what ran since.
        if flags.closing || flags.input_ended || transport.is_lost(py) {
            return Ok(());
        }
        if flags.paused {
            // Only now: a pause is mostly over before there is more, and then it has cost no system call.
            transport.unwatch(py, Direction::Read);
            return Ok(());
        }
        match transport.protocol.receiver(py) {
            Ok(Some(Receiver::Native(native))) => Self::read_natively(this, &native),
            Ok(Some(Receiver::Data(data_received))) => Self::read_data(this, data_received.bind(py)),
            Ok(Some(Receiver::Buffered { get_buffer, buffer_updated })) => {
                Self::read_into_buffer(this, get_buffer.bind(py), buffer_updated.bind(py))
            }
            Ok(None) => Ok(()),
            Err(error) => Self::fatal_error(this, error, "Fatal error: protocol.data_received() call failed."),
        }
    }

    #[inline]
    fn read_natively(this: &Bound<'_, Self>, protocol: &Native) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let mut read_size = transport.read_size.get(py);
        if read_size.is_large() && Self::leave(this, protocol)? {
            return Ok(());
        }
        if let Some(receive) = protocol.receiver() {
            let (received, done) = transport.receive_lent(py, |data| receive(py, data));
            return Self::handed_over(this, received, || done.unwrap_or(Ok(Ran::Anybodys)));
        }
        let room = match read_size.next() {
            Room::Scratch => SCRATCH,
            Room::Own(room) => room.min(LARGEST),
        };
        let received = SHARED.with(py, |shared| {
            let received = socket::recv(transport.source.fd(), &mut shared[..room]);
            if let Ok(Transfer::Done(count @ 1..)) = received {
                protocol.take_in(py, &shared[..count]);
            }
            received
        });
        if let Ok(Transfer::Done(count @ 1..)) = received {
            read_size.record(count);
            transport.read_size.set(py, read_size);
        }
        Self::handed_over(this, received, || protocol.received(py))
    }

    /// One `recv`, into memory that nobody else uses while `take` has it. Can run Python code, if that does.
    #[inline]
    fn receive_lent<R>(&self, py: Python<'_>, take: impl FnOnce(&[u8]) -> R) -> (io::Result<Transfer>, Option<R>) {
        let mut lent = LENT.take(py).unwrap_or_else(|| vec![0; LARGEST].into_boxed_slice());
        let received = socket::recv(self.source.fd(), &mut lent);
        let taken = match received {
            Ok(Transfer::Done(count @ 1..)) => {
                let mut read_size = self.read_size.get(py);
                read_size.record(count);
                self.read_size.set(py, read_size);
                Some(take(&lent[..count]))
            }
            _ => None,
        };
        drop(LENT.replace(py, Some(lent)));
        (received, taken)
    }

    /// Leaves what there is to a coroutine that waits for it, if there is one.
    fn leave(this: &Bound<'_, Self>, protocol: &Native) -> PyResult<bool> {
        let py = this.py();
        let transport = this.get();
        let core = transport.core(py);
        let engine = core.get().engine(py);
        if transport.fetched.get(py) == engine.stats().turns() {
            // What the kernel had told of was fetched since. If there is more, it tells again.
            return Ok(true);
        }
        if transport.flags.get(py).at_end {
            return Ok(false);
        }
        let Some(ran) = protocol.wake_to_fetch(py, core)? else { return Ok(false) };
        transport.change(py, |flags| flags.left = true);
        if ran == Ran::Ours {
            engine.ran_quietly();
        }
        Ok(true)
    }

    /// Receives at most `count` bytes for a coroutine that was woken to fetch them, and with them, if there is more, at
    /// most as many that are for the next to read. `None` if there are none, or if they are not left to it: the
    /// transport goes on to tell its protocol of all that comes.
    ///
    /// # Errors
    ///
    /// `MemoryError`. An error of the connection ends it as usual, and is told by `connection_lost`.
    pub(crate) fn fetch<'py>(this: &Bound<'py, Self>, count: usize) -> PyResult<Option<Fetched<'py>>> {
        let py = this.py();
        let transport = this.get();
        if !transport.begin_fetch(py) {
            return Ok(None);
        }
        let mut read_size = transport.read_size.get(py);
        let room = read_size.room();
        let fd = transport.source.fd();
        let received = if room > count {
            let rooms = [count, (room - count).min(count)];
            bytes::receive_two(py, rooms, |first, second| socket::recv_scattered(fd, first, second))?
        } else {
            let received = bytes::receive(py, room, |buffer| socket::recv_uninit(fd, buffer))?;
            received.map(|data| data.map(|data| (data, None)))
        };
        let (received, fetched) = match received {
            Ok(Some((data, rest))) => {
                let count = data.as_bytes().len() + rest.as_ref().map_or(0, |rest| rest.as_bytes().len());
                if count > 0 {
                    read_size.record(count);
                    transport.read_size.set(py, read_size);
                }
                (Ok(Transfer::Done(count)), Some(Fetched { data, rest }).filter(|_| count > 0))
            }
            Ok(None) => (Ok(Transfer::WouldBlock), None),
            Err(error) => (Err(error), None),
        };
        Self::end_fetch(this, received).map(|()| fetched)
    }

    /// As [`fetch`](Self::fetch), into memory that `receive` knows. It must run no Python code.
    ///
    /// # Errors
    ///
    /// What the program's exception handler raises. An error of the connection ends it, as above.
    pub(crate) fn fetch_into(
        this: &Bound<'_, Self>,
        receive: impl FnOnce(BorrowedFd<'_>) -> io::Result<Transfer>,
    ) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        if !transport.begin_fetch(py) {
            return Ok(());
        }
        let received = receive(transport.source.fd());
        if let Ok(Transfer::Done(count @ 1..)) = received {
            let mut read_size = transport.read_size.get(py);
            read_size.record(count);
            transport.read_size.set(py, read_size);
        }
        Self::end_fetch(this, received)
    }

    /// As [`fetch`](Self::fetch), for a protocol of ours that makes something else of what came than a `bytes`.
    ///
    /// # Errors
    ///
    /// What the program's exception handler raises. An error of the connection ends it, as above.
    pub(crate) fn fetch_lent<R>(this: &Bound<'_, Self>, take: impl FnOnce(&[u8]) -> R) -> PyResult<Option<R>> {
        let py = this.py();
        if !this.get().begin_fetch(py) {
            return Ok(None);
        }
        let (received, taken) = this.get().receive_lent(py, take);
        Self::end_fetch(this, received).map(|()| taken)
    }

    /// Whether what there is was left to whoever asks, once. It had come before the transport was closed or paused, if
    /// it was since: so it is still to be had, as asyncio's reader has it by then.
    fn begin_fetch(&self, py: Python<'_>) -> bool {
        let flags = self.flags.get(py);
        let is_there = !flags.input_ended && self.endpoint.with(py, |endpoint| endpoint.is_open());
        let fetches = flags.left && is_there;
        if fetches {
            self.change(py, |flags| flags.left = false);
        }
        fetches
    }

    /// Deals with what came of fetching.
    fn end_fetch(this: &Bound<'_, Self>, received: io::Result<Transfer>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        match received {
            Ok(Transfer::Done(0)) => {
                // The transport will be told of it again.
                transport.change(py, |flags| flags.at_end = true);
                Ok(())
            }
            Ok(Transfer::Done(_)) => {
                transport.fetched.set(py, transport.core(py).get().engine(py).stats().turns());
                Ok(())
            }
            Ok(Transfer::WouldBlock) => Ok(()),
            Err(error) => Self::fatal_error(this, os_error(py, &error), "Fatal read error on socket transport"),
        }
    }

    /// Deals with what came of receiving, where a protocol of ours has what came; `tell` tells it.
    #[inline]
    fn handed_over(
        this: &Bound<'_, Self>,
        received: io::Result<Transfer>,
        tell: impl FnOnce() -> PyResult<Ran>,
    ) -> PyResult<()> {
        let py = this.py();
        match received {
            Ok(Transfer::Done(0)) => Self::end_of_input(this),
            Ok(Transfer::Done(_)) => match tell() {
                Ok(ran) => {
                    if ran == Ran::Ours {
                        this.get().core(py).get().engine(py).ran_quietly();
                    }
                    Ok(())
                }
                Err(error) => Self::fatal_error(this, error, "Fatal error: protocol.data_received() call failed."),
            },
            Ok(Transfer::WouldBlock) => Ok(()),
            Err(error) => Self::fatal_error(this, os_error(py, &error), "Fatal read error on socket transport"),
        }
    }

    #[inline]
    fn read_data<'py>(this: &Bound<'py, Self>, data_received: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = this.py();
        match this.get().receive(py) {
            Ok(Some(data)) if !data.as_bytes().is_empty() => match call1(data_received, data.as_any()) {
                Ok(_) => Ok(()),
                Err(error) => Self::fatal_error(this, error, "Fatal error: protocol.data_received() call failed."),
            },
            Ok(Some(_)) => Self::end_of_input(this),
            Ok(None) => Ok(()),
            Err(error) => Self::fatal_error(this, error, "Fatal read error on socket transport"),
        }
    }

    /// One `recv`; `None` if it would block.
    #[inline]
    fn receive<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let mut read_size = self.read_size.get(py);
        let fd = self.source.fd();
        let room = match read_size.next() {
            Room::Scratch => 0,
            Room::Own(room) => room.min(socket::available(fd)),
        };
        let received = if room > SCRATCH {
            bytes::keep_memory(KEPT);
            bytes::receive(py, room, |buffer| socket::recv_uninit(fd, buffer))
        } else {
            SHARED.with(py, |shared| match socket::recv(fd, &mut shared[..SCRATCH]) {
                Ok(Transfer::Done(count)) => bytes::copy(py, &shared[..count]).map(|data| Ok(Some(data))),
                Ok(Transfer::WouldBlock) => Ok(Ok(None)),
                Err(error) => Ok(Err(error)),
            })
        };
        let received = received?.map_err(|error| os_error(py, &error))?;
        if let Some(data) = &received {
            read_size.record(data.as_bytes().len());
            self.read_size.set(py, read_size);
        }
        Ok(received)
    }

    fn read_into_buffer<'py>(
        this: &Bound<'py, Self>,
        get_buffer: &Bound<'py, PyAny>,
        buffer_updated: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let unknown_size = (-1i32).into_pyobject(py)?;
        let buffer = call1(get_buffer, unknown_size.as_any()).and_then(|buffer| match buffer.len()? {
            0 => Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer")),
            _ => Ok(buffer),
        });
        let buffer = match buffer {
            Ok(buffer) => buffer,
            Err(error) => return Self::fatal_error(this, error, "Fatal error: protocol.get_buffer() call failed."),
        };
        // The protocol has had its say in between.
        if transport.is_lost(py) {
            return Ok(());
        }
        // The words are those of the socket's method.
        let received = with_bytes_mut(&buffer, |bytes| socket::recv(transport.source.fd(), bytes)).map_err(|_| {
            let class = buffer.get_type().name().map_or_else(|_| "object".to_owned(), |name| name.to_string());
            PyTypeError::new_err(format!("recv_into() argument 1 must be read-write bytes-like object, not {class}"))
        });
        match received.and_then(|received| received.map_err(|error| os_error(py, &error))) {
            Ok(Transfer::Done(0)) => Self::end_of_input(this),
            Ok(Transfer::Done(count)) => match call1(buffer_updated, count.into_pyobject(py)?.as_any()) {
                Ok(_) => Ok(()),
                Err(error) => Self::fatal_error(this, error, "Fatal error: protocol.buffer_updated() call failed."),
            },
            Ok(Transfer::WouldBlock) => Ok(()),
            Err(error) => Self::fatal_error(this, error, "Fatal read error on socket transport"),
        }
    }

    fn end_of_input(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        Self::log_debug(this, "%r received EOF", None);
        let keep_open = transport.protocol.call0(intern!(py, "eof_received")).and_then(|answer| match answer {
            Some(answer) => answer.is_truthy(),
            None => Ok(false),
        });
        match keep_open {
            Ok(true) => {
                // The end of file would be reported for ever.
                transport.change(py, |flags| flags.input_ended = true);
                transport.unwatch(py, Direction::Read);
                Ok(())
            }
            Ok(false) => Self::close(this),
            Err(error) => Self::fatal_error(this, error, "Fatal error: protocol.eof_received() call failed."),
        }
    }
}
