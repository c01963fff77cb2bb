//! The `sock_*` coroutines: one system call on a socket of the user's, awaited.
//!
//! All of them are one loop: try the call, and if it would block wait for readiness and try again. The call is made by
//! the coroutine, not by whoever noticed the readiness. So nothing is lost by a cancellation: what has not been received
//! or accepted stays with the kernel, also when the readiness was noticed in the same turn (asyncio, which receives
//! first and wakes the coroutine then, loses it). Several coroutines may wait on one socket; who comes too late waits
//! again.
//!
//! `recv`, `recv_into` and `send` are called on the descriptor, unless the socket's class has its own; whatever handles
//! addresses goes through the socket's methods. The calls never block, even if the socket would.

use std::os::fd::RawFd;

use ferrio::engine::Direction;
use ferrio::net::{Transfer, socket};
use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyOSError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PyString};

use super::EventLoop;
use super::dns::ensure_resolved;
use super::fds::{WeakLoop, readiness};
use crate::asyncio;
use crate::coroutine::Coroutine;
use crate::ffi::buffer::{with_bytes, with_bytes_mut};
use crate::ffi::bytes::receive;
use crate::ffi::call::{method0, method1};
use crate::ffi::descriptor::borrow;
use crate::os_error::os_error;

/// What came of an attempt; `None` if it would have blocked.
type Attempt<T> = PyResult<Option<T>>;

#[pymethods]
impl EventLoop {
    /// Receives at most `n` bytes; an empty `bytes` is the end of the stream. A cancelled call has received nothing.
    fn sock_recv<'py>(
        slf: &Bound<'py, Self>,
        sock: Bound<'py, PyAny>,
        n: Py<PyAny>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let socket = Socket::new(slf, sock)?;
        Coroutine::new(slf.py(), "sock_recv", async move {
            socket.attempt(Direction::Read, |sock| recv(sock, n.bind(sock.py()))).await
        })
    }

    /// Receives into the writable buffer `buf`; returns the number of bytes, 0 at the end of the stream. A cancelled call
    /// has received nothing.
    fn sock_recv_into<'py>(
        slf: &Bound<'py, Self>,
        sock: Bound<'py, PyAny>,
        buf: Py<PyAny>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let socket = Socket::new(slf, sock)?;
        Coroutine::new(slf.py(), "sock_recv_into", async move {
            socket.attempt(Direction::Read, |sock| recv_into(sock, buf.bind(sock.py()))).await
        })
    }

    /// Receives a datagram of at most `bufsize` bytes; returns it and its sender's address. A cancelled call has received
    /// nothing.
    fn sock_recvfrom<'py>(
        slf: &Bound<'py, Self>,
        sock: Bound<'py, PyAny>,
        bufsize: Py<PyAny>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let socket = Socket::new(slf, sock)?;
        Coroutine::new(slf.py(), "sock_recvfrom", async move {
            let call = |sock: &Bound<'_, PyAny>| {
                let py = sock.py();
                unless_blocked(method1(sock, intern!(py, "recvfrom"), bufsize.bind(py)))
            };
            socket.attempt(Direction::Read, call).await
        })
    }

    /// Receives a datagram into the writable buffer `buf`, at most `nbytes` bytes or as many as there is room for if that
    /// is 0; returns the number of bytes and the sender's address. A cancelled call has received nothing.
    #[pyo3(signature = (sock, buf, nbytes=None), text_signature = "($self, sock, buf, nbytes=0)")]
    fn sock_recvfrom_into<'py>(
        slf: &Bound<'py, Self>,
        sock: Bound<'py, PyAny>,
        buf: Py<PyAny>,
        nbytes: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let socket = Socket::new(slf, sock)?;
        Coroutine::new(slf.py(), "sock_recvfrom_into", async move {
            let call = |sock: &Bound<'_, PyAny>| {
                let py = sock.py();
                let received = match &nbytes {
                    Some(nbytes) => sock.call_method1(intern!(py, "recvfrom_into"), (&buf, nbytes)),
                    None => sock.call_method1(intern!(py, "recvfrom_into"), (&buf,)),
                };
                unless_blocked(received)
            };
            socket.attempt(Direction::Read, call).await
        })
    }

    /// Sends all of `data`. After an error or a cancellation nobody knows how much of it was sent.
    fn sock_sendall<'py>(
        slf: &Bound<'py, Self>,
        sock: Bound<'py, PyAny>,
        data: Py<PyAny>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let socket = Socket::new(slf, sock)?;
        Coroutine::new(slf.py(), "sock_sendall", async move {
            let mut rest = Rest { data, sent: 0, viewed: false };
            socket.attempt(Direction::Write, |sock| rest.send(sock)).await
        })
    }

    /// Sends `data` as one datagram to `address`; returns the number of bytes. A cancelled call has sent nothing.
    fn sock_sendto<'py>(
        slf: &Bound<'py, Self>,
        sock: Bound<'py, PyAny>,
        data: Py<PyAny>,
        address: Py<PyAny>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let socket = Socket::new(slf, sock)?;
        Coroutine::new(slf.py(), "sock_sendto", async move {
            let call = |sock: &Bound<'_, PyAny>| {
                let py = sock.py();
                unless_blocked(sock.call_method1(intern!(py, "sendto"), (data.bind(py), address.bind(py))))
            };
            socket.attempt(Direction::Write, call).await
        })
    }

    /// Connects to `address`; a host name in it is resolved first. A socket whose connect was cancelled may connect all
    /// the same, and is good for nothing but to be closed.
    ///
    /// Raises BlockingIOError if the queue of a Unix socket is full: the kernel will not tell when it no longer is.
    fn sock_connect<'py>(
        slf: &Bound<'py, Self>,
        sock: Bound<'py, PyAny>,
        address: Py<PyAny>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let socket = Socket::new(slf, sock)?;
        Coroutine::new(slf.py(), "sock_connect", async move {
            socket.check()?;
            let address = ensure_resolved(&socket.event_loop, &socket.object, address).await?;
            if Python::attach(|py| begin_connect(socket.object.bind(py), address.bind(py)))? {
                socket.ready(Direction::Write).await?;
                Python::attach(|py| end_connect(socket.object.bind(py), address.bind(py)))?;
            }
            Python::attach(|py| Ok(py.None()))
        })
    }

    /// Accepts a connection; returns it, a non-blocking socket, and the peer's address. A cancelled call has accepted
    /// nothing.
    fn sock_accept<'py>(slf: &Bound<'py, Self>, sock: Bound<'py, PyAny>) -> PyResult<Bound<'py, Coroutine>> {
        let socket = Socket::new(slf, sock)?;
        Coroutine::new(slf.py(), "sock_accept", async move { socket.attempt(Direction::Read, accept).await })
    }
}

/// A socket of the user's, in the body of a coroutine.
pub(super) struct Socket {
    pub(super) event_loop: WeakLoop,
    pub(super) object: Py<PyAny>,
}

impl Socket {
    pub(super) fn new(event_loop: &Bound<'_, EventLoop>, object: Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self { event_loop: WeakLoop::new(event_loop)?, object: object.unbind() })
    }

    /// Makes attempts until one comes to something.
    async fn attempt(
        &self,
        direction: Direction,
        mut attempt: impl FnMut(&Bound<'_, PyAny>) -> Attempt<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.check()?;
        loop {
            if let Some(result) = Python::attach(|py| attempt(self.object.bind(py)))? {
                return Ok(result);
            }
            self.ready(direction).await?;
        }
    }

    pub(super) async fn ready(&self, direction: Direction) -> PyResult<()> {
        let fd = Python::attach(|py| method0(self.object.bind(py), intern!(py, "fileno"))?.extract())?;
        readiness(&self.event_loop, fd, direction).await
    }

    /// # Errors
    ///
    /// `TypeError` for an `ssl.SSLSocket`; `ValueError` in debug mode for a socket that is not non-blocking.
    pub(super) fn check(&self) -> PyResult<()> {
        Python::attach(|py| {
            let sock = self.object.bind(py);
            if !sock.get_type().is(asyncio::socket_class(py)?) {
                asyncio::check_ssl_socket(py)?.call1((sock,))?;
            }
            if self.event_loop.get(py)?.as_super().get().debug.get(py)
                && !sock.call_method0(intern!(py, "gettimeout"))?.eq(0)?
            {
                return Err(PyValueError::new_err("the socket must be non-blocking"));
            }
            Ok(())
        })
    }
}

/// The descriptor of a socket whose class has left the method `name` as it was; `None` also if the socket is closed, since
/// its own method has the right words for that.
fn plain(sock: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> PyResult<Option<RawFd>> {
    let py = sock.py();
    let original = asyncio::base_socket_class(py)?.getattr(name)?;
    if !sock.get_type().getattr(name).is_ok_and(|method| method.is(&original)) {
        return Ok(None);
    }
    let fd = method0(sock, intern!(py, "fileno"))?.extract()?;
    Ok((fd >= 0).then_some(fd))
}

/// Tells the exceptions for "would block" apart from others.
fn unless_blocked(result: PyResult<Bound<'_, PyAny>>) -> Attempt<Py<PyAny>> {
    match result {
        Ok(value) => Ok(Some(value.unbind())),
        Err(error) => Python::attach(|py| if is_blocked(py, &error) { Ok(None) } else { Err(error) }),
    }
}

fn is_blocked(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyBlockingIOError>(py) || error.is_instance_of::<PyInterruptedError>(py)
}

fn recv(sock: &Bound<'_, PyAny>, n: &Bound<'_, PyAny>) -> Attempt<Py<PyAny>> {
    let py = sock.py();
    // No number, a negative one, none at all: the socket's method knows what to do.
    if let (Ok(room @ 1..), Some(fd)) = (n.extract::<usize>(), plain(sock, intern!(py, "recv"))?) {
        let received = receive(py, room, |buffer| socket::recv_uninit(borrow(fd), buffer))?;
        return Ok(received.map_err(|error| os_error(py, &error))?.map(|bytes| bytes.into_any().unbind()));
    }
    unless_blocked(method1(sock, intern!(py, "recv"), n))
}

fn recv_into(sock: &Bound<'_, PyAny>, buf: &Bound<'_, PyAny>) -> Attempt<Py<PyAny>> {
    let py = sock.py();
    if let Some(fd) = plain(sock, intern!(py, "recv_into"))? {
        let received = with_bytes_mut(buf, |bytes| match bytes {
            [] => Ok(Transfer::Done(0)),
            bytes => socket::recv(borrow(fd), bytes),
        });
        // What is no buffer to us is none to the method either, which has its own words for that.
        if let Ok(received) = received {
            return match received.map_err(|error| os_error(py, &error))? {
                Transfer::Done(count) => Ok(Some(count.into_pyobject(py)?.into_any().unbind())),
                Transfer::WouldBlock => Ok(None),
            };
        }
    }
    unless_blocked(method1(sock, intern!(py, "recv_into"), buf))
}

/// What is left to send.
struct Rest {
    /// The data, or a view of it from the first wait on, so that its size cannot change.
    data: Py<PyAny>,
    sent: usize,
    viewed: bool,
}

impl Rest {
    fn send(&mut self, sock: &Bound<'_, PyAny>) -> Attempt<Py<PyAny>> {
        let py = sock.py();
        let data = self.data.bind(py);
        let (sent, length) = match plain(sock, intern!(py, "send"))? {
            Some(fd) => {
                let rest = |bytes: &[u8]| {
                    let rest = bytes.get(self.sent..).unwrap_or_default();
                    socket::send(borrow(fd), rest).map(|sent| (sent, bytes.len()))
                };
                match with_bytes(data, rest)?.map_err(|error| os_error(py, &error))? {
                    (Transfer::Done(sent), length) => (sent, length),
                    (Transfer::WouldBlock, length) => (0, length),
                }
            }
            None => self.send_by_method(sock)?,
        };
        self.sent += sent;
        if self.sent >= length {
            return Ok(Some(py.None()));
        }
        if !self.viewed {
            self.data = PyMemoryView::from(data)?.call_method1(intern!(py, "cast"), ("B",))?.unbind();
            self.viewed = true;
        }
        Ok(None)
    }

    fn send_by_method(&self, sock: &Bound<'_, PyAny>) -> PyResult<(usize, usize)> {
        let py = sock.py();
        let data = self.data.bind(py);
        let sent = if self.viewed {
            let rest = data.get_item(pyo3::types::PySlice::new(py, isize::try_from(self.sent)?, isize::MAX, 1))?;
            sock.call_method1(intern!(py, "send"), (rest,))
        } else {
            sock.call_method1(intern!(py, "send"), (data,))
        };
        let sent = match unless_blocked(sent)? {
            Some(sent) => sent.extract(py)?,
            None => 0,
        };
        Ok((sent, with_bytes(data, <[u8]>::len)?))
    }
}

/// True if the connection is being made, false if it stands.
pub(super) fn begin_connect(sock: &Bound<'_, PyAny>, address: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = sock.py();
    match method1(sock, intern!(py, "connect"), address) {
        Ok(_) => Ok(false),
        Err(error) if is_blocked(py, &error) => {
            // No connection has begun, and the socket counts as writable: a wait would end at once, in what looks like
            // success.
            let refused = error.value(py).getattr(intern!(py, "errno"))?.eq(libc::EAGAIN)?;
            if refused { Err(error) } else { Ok(true) }
        }
        Err(error) => Err(error),
    }
}

pub(super) fn end_connect(sock: &Bound<'_, PyAny>, address: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = sock.py();
    let error = sock.call_method1(intern!(py, "getsockopt"), (libc::SOL_SOCKET, libc::SO_ERROR))?;
    if error.eq(0)? {
        return Ok(());
    }
    let text = format!("Connect call failed {}", address.str()?);
    // By a call: it is the class that picks the subclass for the number.
    Err(PyErr::from_value(py.get_type::<PyOSError>().call1((error, text))?))
}

fn accept(sock: &Bound<'_, PyAny>) -> Attempt<Py<PyAny>> {
    let py = sock.py();
    let Some(accepted) = unless_blocked(method0(sock, intern!(py, "accept")))? else { return Ok(None) };
    let (connection, address): (Bound<'_, PyAny>, Bound<'_, PyAny>) = accepted.extract(py)?;
    connection.call_method1(intern!(py, "setblocking"), (false,))?;
    Ok(Some((connection, address).into_pyobject(py)?.into_any().unbind()))
}
