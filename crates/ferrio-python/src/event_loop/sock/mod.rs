//! The `sock_*` coroutines: one system call on a socket of the user's, awaited.
//!
//! | file | topic |
//! |---|---|
//! | [`attempts`] | a call that is tried until it does not block |
//! | [`receiving`], [`sending`], [`connecting`] | the calls |
//!
//! All of them but connecting are one loop, [`Attempts`]: try the call, and if it would block wait for readiness and
//! try again. The call is made by the coroutine, not by whoever noticed the readiness. So nothing is lost by a
//! cancellation: what has not been received or accepted stays with the kernel, also when the readiness was noticed in
//! the same turn (asyncio, which receives first and wakes the coroutine then, loses it). Several coroutines may wait on
//! one socket; who comes too late waits again.
//!
//! `recv`, `recv_into` and `send` are called on the descriptor, unless the socket's class has its own; whatever handles
//! addresses goes through the socket's methods. The calls never block, even if the socket would.
//!
//! # Budget of a received message
//!
//! Two `recv`, as the first one finds nothing, and a share of an `epoll_wait`; no `epoll_ctl` (see
//! [`watched`](super::watched)). One allocation beside the message's: the future comes from the pool, the frame lies in
//! the coroutine, which does too.

mod attempts;
mod connecting;
mod receiving;
mod sending;

pub(super) use connecting::{begin_connect, end_connect};

use std::ffi::CStr;

use ferrio::engine::Direction;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;

use self::attempts::Attempts;
use self::connecting::Accept;
use self::receiving::{Recv, RecvFrom, RecvFromInto, RecvInto};
use self::sending::{SendAll, SendTo};
use super::EventLoop;
use super::dns::ensure_resolved;
use super::readiness::readiness;
use super::weak_loop::WeakLoop;
use crate::asyncio;
use crate::coroutine::Coroutine;
use crate::ffi::call::method0;
use crate::ffi::method::{CallArguments, FastMethod};

/// `EventLoop.sock_recv`.
pub(crate) struct SockRecv;

impl FastMethod for SockRecv {
    type Class = EventLoop;

    const NAME: &'static CStr = c"sock_recv";

    const DOC: &'static CStr = c"sock_recv($self, sock, n)\n--\n\n\
        Receives at most `n` bytes; an empty `bytes` is the end of the stream. A cancelled call has received nothing.";

    fn call<'py>(slf: &Bound<'py, EventLoop>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let [sock, n] = arguments.bind("sock_recv", ["sock", "n"], 2, 2)?;
        let (Some(sock), Some(n)) = (sock, n) else { return Ok(slf.py().None().into_bound(slf.py())) };
        Attempts::coroutine(slf, "BaseSelectorEventLoop.sock_recv", sock.to_owned(), Recv { n: n.to_owned().unbind() })
    }
}

/// `EventLoop.sock_sendall`.
pub(crate) struct SockSendAll;

impl FastMethod for SockSendAll {
    type Class = EventLoop;

    const NAME: &'static CStr = c"sock_sendall";

    const DOC: &'static CStr = c"sock_sendall($self, sock, data)\n--\n\n\
        Sends all of `data`. After an error or a cancellation nobody knows how much of it was sent.";

    fn call<'py>(slf: &Bound<'py, EventLoop>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let [sock, data] = arguments.bind("sock_sendall", ["sock", "data"], 2, 2)?;
        let (Some(sock), Some(data)) = (sock, data) else { return Ok(slf.py().None().into_bound(slf.py())) };
        let call = SendAll { data: data.to_owned().unbind(), sent: 0, viewed: false };
        Attempts::coroutine(slf, "BaseSelectorEventLoop.sock_sendall", sock.to_owned(), call)
    }
}

#[pymethods]
impl EventLoop {
    /// Receives into the writable buffer `buf`; returns the number of bytes, 0 at the end of the stream. A cancelled
    /// call has received nothing.
    fn sock_recv_into<'py>(
        slf: &Bound<'py, Self>,
        sock: Bound<'py, PyAny>,
        buf: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Attempts::coroutine(slf, "BaseSelectorEventLoop.sock_recv_into", sock, RecvInto { buf })
    }

    /// Receives a datagram of at most `bufsize` bytes; returns it and its sender's address. A cancelled call has
    /// received nothing.
    fn sock_recvfrom<'py>(
        slf: &Bound<'py, Self>,
        sock: Bound<'py, PyAny>,
        bufsize: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Attempts::coroutine(slf, "BaseSelectorEventLoop.sock_recvfrom", sock, RecvFrom { bufsize })
    }

    /// Receives a datagram into the writable buffer `buf`, at most `nbytes` bytes or as many as there is room for if
    /// that is 0; returns the number of bytes and the sender's address. A cancelled call has received nothing.
    #[pyo3(signature = (sock, buf, nbytes=None), text_signature = "($self, sock, buf, nbytes=0)")]
    fn sock_recvfrom_into<'py>(
        slf: &Bound<'py, Self>,
        sock: Bound<'py, PyAny>,
        buf: Py<PyAny>,
        nbytes: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Attempts::coroutine(slf, "BaseSelectorEventLoop.sock_recvfrom_into", sock, RecvFromInto { buf, nbytes })
    }

    /// Sends `data` as one datagram to `address`; returns the number of bytes. A cancelled call has sent nothing.
    fn sock_sendto<'py>(
        slf: &Bound<'py, Self>,
        sock: Bound<'py, PyAny>,
        data: Py<PyAny>,
        address: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Attempts::coroutine(slf, "BaseSelectorEventLoop.sock_sendto", sock, SendTo { data, address })
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
        Coroutine::new(slf.py(), "BaseSelectorEventLoop.sock_connect", async move {
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
    fn sock_accept<'py>(slf: &Bound<'py, Self>, sock: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Attempts::coroutine(slf, "BaseSelectorEventLoop.sock_accept", sock, Accept)
    }
}

/// A socket of the user's, in the body of a coroutine that is an `async` block.
pub(super) struct Socket {
    pub(super) event_loop: WeakLoop,
    pub(super) object: Py<PyAny>,
}

impl Socket {
    pub(super) fn new(event_loop: &Bound<'_, EventLoop>, object: Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self { event_loop: WeakLoop::new(event_loop)?, object: object.unbind() })
    }

    pub(super) async fn ready(&self, direction: Direction) -> PyResult<()> {
        let fd = Python::attach(|py| method0(self.object.bind(py), intern!(py, "fileno"))?.extract())?;
        readiness(&self.event_loop, fd, direction).await
    }

    /// # Errors
    ///
    /// `TypeError` for an `ssl.SSLSocket`; `ValueError` in debug mode for a socket that is not non-blocking.
    pub(super) fn check(&self) -> PyResult<()> {
        Python::attach(|py| check(&self.event_loop.get(py)?, self.object.bind(py)))
    }
}

fn check(event_loop: &Bound<'_, EventLoop>, sock: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = sock.py();
    if !sock.get_type().is(asyncio::socket_class(py)?) {
        asyncio::check_ssl_socket(py)?.call1((sock,))?;
    }
    if event_loop.as_super().get().debug.get(py) && !sock.call_method0(intern!(py, "gettimeout"))?.eq(0)? {
        return Err(PyValueError::new_err("the socket must be non-blocking"));
    }
    Ok(())
}
