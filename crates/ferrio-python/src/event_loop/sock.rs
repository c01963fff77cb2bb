//! The `sock_*` coroutines: one system call on a socket of the user's, awaited.
//!
//! All of them are one loop, [`Attempts`]: try the call, and if it would block wait for readiness and try again. The call is
//! made by the coroutine, not by whoever noticed the readiness. So nothing is lost by a cancellation: what has not been
//! received or accepted stays with the kernel, also when the readiness was noticed in the same turn (asyncio, which receives
//! first and wakes the coroutine then, loses it). Several coroutines may wait on one socket; who comes too late waits
//! again.
//!
//! `recv`, `recv_into` and `send` are called on the descriptor, unless the socket's class has its own; whatever handles
//! addresses goes through the socket's methods. The calls never block, even if the socket would.
//!
//! # Budget of a received message
//!
//! Two `recv`, as the first one finds nothing, and a share of an `epoll_wait`; no `epoll_ctl` (see [`fds`](super::fds)).
//! One allocation beside the message's: the future comes from the pool, the frame lies in the coroutine, which does too.

use std::ffi::CStr;
use std::os::fd::RawFd;

use ferrio::engine::Direction;
use ferrio::net::{Transfer, socket};
use ferrio::stream::SCRATCH;
use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyOSError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PyString};
use pyo3::{PyTraverseError, intern};

use super::EventLoop;
use super::dns::ensure_resolved;
use super::fds::{WeakLoop, readiness};
use crate::asyncio;
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::buffer::{with_bytes, with_bytes_mut};
use crate::ffi::bytes;
use crate::ffi::call::{method0, method1};
use crate::ffi::cell::GilCell;
use crate::ffi::descriptor::borrow;
use crate::ffi::method::{CallArguments, FastMethod};
use crate::os_error::os_error;

/// What came of an attempt.
enum Tried<'py> {
    Done(Bound<'py, PyAny>),
    /// The kernel would have blocked: it tells when it no longer would.
    Blocked,
    /// Somebody else said so, or a part was done: the kernel may be ready all the same.
    Again,
}

type Attempt<'py> = PyResult<Tried<'py>>;

/// Where small messages are received. Nothing is in it between two calls.
static SHARED: GilCell<[u8; SCRATCH]> = GilCell::new([0; SCRATCH]);

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
        Attempts::coroutine(slf, "sock_recv", sock.to_owned(), Recv { n: n.to_owned().unbind() })
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
        Attempts::coroutine(slf, "sock_sendall", sock.to_owned(), call)
    }
}

#[pymethods]
impl EventLoop {
    /// Receives into the writable buffer `buf`; returns the number of bytes, 0 at the end of the stream. A cancelled call
    /// has received nothing.
    fn sock_recv_into<'py>(
        slf: &Bound<'py, Self>,
        sock: Bound<'py, PyAny>,
        buf: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Attempts::coroutine(slf, "sock_recv_into", sock, RecvInto { buf })
    }

    /// Receives a datagram of at most `bufsize` bytes; returns it and its sender's address. A cancelled call has received
    /// nothing.
    fn sock_recvfrom<'py>(
        slf: &Bound<'py, Self>,
        sock: Bound<'py, PyAny>,
        bufsize: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Attempts::coroutine(slf, "sock_recvfrom", sock, RecvFrom { bufsize })
    }

    /// Receives a datagram into the writable buffer `buf`, at most `nbytes` bytes or as many as there is room for if that
    /// is 0; returns the number of bytes and the sender's address. A cancelled call has received nothing.
    #[pyo3(signature = (sock, buf, nbytes=None), text_signature = "($self, sock, buf, nbytes=0)")]
    fn sock_recvfrom_into<'py>(
        slf: &Bound<'py, Self>,
        sock: Bound<'py, PyAny>,
        buf: Py<PyAny>,
        nbytes: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Attempts::coroutine(slf, "sock_recvfrom_into", sock, RecvFromInto { buf, nbytes })
    }

    /// Sends `data` as one datagram to `address`; returns the number of bytes. A cancelled call has sent nothing.
    fn sock_sendto<'py>(
        slf: &Bound<'py, Self>,
        sock: Bound<'py, PyAny>,
        data: Py<PyAny>,
        address: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Attempts::coroutine(slf, "sock_sendto", sock, SendTo { data, address })
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
    fn sock_accept<'py>(slf: &Bound<'py, Self>, sock: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Attempts::coroutine(slf, "sock_accept", sock, Accept)
    }
}

/// A call on a socket that is tried until it does not block.
trait Call: Send + 'static {
    /// What it waits for.
    const DIRECTION: Direction;

    /// Tries once. Can run Python code.
    fn attempt<'py>(&mut self, sock: &Bound<'py, PyAny>) -> Attempt<'py>;

    /// Shows what the call holds to the garbage collector.
    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError>;
}

/// The body of a coroutine: attempts until one comes to something.
struct Attempts<C: Call> {
    event_loop: Py<EventLoop>,
    socket: Py<PyAny>,
    call: C,
    /// The waiter's number and its descriptor, while there is one.
    waiter: Option<u32>,
    fd: RawFd,
}

impl<C: Call> Attempts<C> {
    #[inline]
    fn coroutine<'py>(
        event_loop: &Bound<'py, EventLoop>,
        name: &'static str,
        socket: Bound<'py, PyAny>,
        call: C,
    ) -> PyResult<Bound<'py, PyAny>> {
        let event_loop = event_loop.clone().unbind();
        Coroutine::of(socket.py(), name, Self { event_loop, socket: socket.unbind(), call, waiter: None, fd: -1 })
    }

    /// Waits until the socket is ready; until it becomes so, if it is known not to be.
    fn wait<'py>(&mut self, py: Python<'py>, is_blocked: bool) -> PyResult<Next<'py>> {
        let sock = self.socket.bind(py);
        let fd = method0(sock, intern!(py, "fileno"))?.extract()?;
        let left = is_blocked.then_some(sock);
        let (future, waiter) = EventLoop::begin_wait(self.event_loop.bind(py), fd, C::DIRECTION, left)?;
        (self.waiter, self.fd) = (Some(waiter), fd);
        Ok(Next::Await(future.into_any()))
    }
}

impl<C: Call> Frame for Attempts<C> {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        if self.fd < 0 {
            check(self.event_loop.bind(py), self.socket.bind(py))?;
        } else {
            // If the wait was ended by something else, the drop of this sees to the waiter.
            outcome?;
            // Told, and therefore no longer waiting.
            self.waiter = None;
        }
        match self.call.attempt(self.socket.bind(py))? {
            Tried::Done(result) => Ok(Next::Return(result)),
            Tried::Blocked => self.wait(py, true),
            Tried::Again => self.wait(py, false),
        }
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.socket)?;
        self.call.traverse(visit)
    }
}

impl<C: Call> Drop for Attempts<C> {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter else { return };
        // None at the end of the interpreter, when no loop runs any more.
        _ = Python::try_attach(|py| {
            EventLoop::remove_waiter(self.event_loop.bind(py), self.fd, C::DIRECTION, waiter);
        });
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

/// What a method's result, or its exception for "would block", means.
fn tried<'py>(sock: &Bound<'py, PyAny>, result: PyResult<Bound<'py, PyAny>>) -> Attempt<'py> {
    let py = sock.py();
    match result {
        Ok(value) => Ok(Tried::Done(value)),
        Err(error) if is_blocked(py, &error) => {
            Ok(if sock.get_type().is(asyncio::socket_class(py)?) { Tried::Blocked } else { Tried::Again })
        }
        Err(error) => Err(error),
    }
}

fn is_blocked(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyBlockingIOError>(py) || error.is_instance_of::<PyInterruptedError>(py)
}

struct Recv {
    n: Py<PyAny>,
}

impl Call for Recv {
    const DIRECTION: Direction = Direction::Read;

    #[inline]
    fn attempt<'py>(&mut self, sock: &Bound<'py, PyAny>) -> Attempt<'py> {
        let py = sock.py();
        let n = self.n.bind(py);
        // No number, a negative one, none at all: the socket's method knows what to do.
        let (Ok(room @ 1..), Some(fd)) = (n.extract::<usize>(), plain(sock, intern!(py, "recv"))?) else {
            return tried(sock, method1(sock, intern!(py, "recv"), n));
        };
        let received = if room <= SCRATCH {
            SHARED.with(py, |shared| match socket::recv(borrow(fd), &mut shared[..room]) {
                Ok(Transfer::Done(count)) => bytes::copy(py, &shared[..count]).map(|data| Ok(Some(data))),
                Ok(Transfer::WouldBlock) => Ok(Ok(None)),
                Err(error) => Ok(Err(error)),
            })
        } else {
            bytes::receive(py, room, |buffer| socket::recv_uninit(borrow(fd), buffer))
        };
        let received = received?.map_err(|error| os_error(py, &error))?;
        Ok(received.map_or(Tried::Blocked, |data| Tried::Done(data.into_any())))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.n)
    }
}

struct RecvInto {
    buf: Py<PyAny>,
}

impl Call for RecvInto {
    const DIRECTION: Direction = Direction::Read;

    fn attempt<'py>(&mut self, sock: &Bound<'py, PyAny>) -> Attempt<'py> {
        let py = sock.py();
        let buf = self.buf.bind(py);
        if let Some(fd) = plain(sock, intern!(py, "recv_into"))? {
            let received = with_bytes_mut(buf, |bytes| match bytes {
                [] => Ok(Transfer::Done(0)),
                bytes => socket::recv(borrow(fd), bytes),
            });
            // What is no buffer to us is none to the method either, which has its own words for that.
            if let Ok(received) = received {
                return match received.map_err(|error| os_error(py, &error))? {
                    Transfer::Done(count) => Ok(Tried::Done(count.into_pyobject(py)?.into_any())),
                    Transfer::WouldBlock => Ok(Tried::Blocked),
                };
            }
        }
        tried(sock, method1(sock, intern!(py, "recv_into"), buf))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.buf)
    }
}

struct RecvFrom {
    bufsize: Py<PyAny>,
}

impl Call for RecvFrom {
    const DIRECTION: Direction = Direction::Read;

    fn attempt<'py>(&mut self, sock: &Bound<'py, PyAny>) -> Attempt<'py> {
        let py = sock.py();
        tried(sock, method1(sock, intern!(py, "recvfrom"), self.bufsize.bind(py)))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.bufsize)
    }
}

struct RecvFromInto {
    buf: Py<PyAny>,
    nbytes: Option<Py<PyAny>>,
}

impl Call for RecvFromInto {
    const DIRECTION: Direction = Direction::Read;

    fn attempt<'py>(&mut self, sock: &Bound<'py, PyAny>) -> Attempt<'py> {
        let py = sock.py();
        let received = match &self.nbytes {
            Some(nbytes) => sock.call_method1(intern!(py, "recvfrom_into"), (&self.buf, nbytes)),
            None => sock.call_method1(intern!(py, "recvfrom_into"), (&self.buf,)),
        };
        tried(sock, received)
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.buf)?;
        visit.call(&self.nbytes)
    }
}

struct SendTo {
    data: Py<PyAny>,
    address: Py<PyAny>,
}

impl Call for SendTo {
    const DIRECTION: Direction = Direction::Write;

    fn attempt<'py>(&mut self, sock: &Bound<'py, PyAny>) -> Attempt<'py> {
        let py = sock.py();
        tried(sock, sock.call_method1(intern!(py, "sendto"), (&self.data, &self.address)))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.data)?;
        visit.call(&self.address)
    }
}

struct SendAll {
    /// The data, or a view of it from the first wait on, so that its size cannot change.
    data: Py<PyAny>,
    sent: usize,
    viewed: bool,
}

impl Call for SendAll {
    const DIRECTION: Direction = Direction::Write;

    #[inline]
    fn attempt<'py>(&mut self, sock: &Bound<'py, PyAny>) -> Attempt<'py> {
        let py = sock.py();
        let data = self.data.bind(py);
        let (sent, length, left) = match plain(sock, intern!(py, "send"))? {
            Some(fd) => {
                let rest = |bytes: &[u8]| {
                    let rest = bytes.get(self.sent..).unwrap_or_default();
                    socket::send(borrow(fd), rest).map(|sent| (sent, bytes.len()))
                };
                match with_bytes(data, rest)?.map_err(|error| os_error(py, &error))? {
                    // A part that was sent is all that there was room for.
                    (Transfer::Done(sent), length) => (sent, length, Tried::Blocked),
                    (Transfer::WouldBlock, length) => (0, length, Tried::Blocked),
                }
            }
            None => self.send_by_method(sock)?,
        };
        self.sent += sent;
        if self.sent >= length {
            return Ok(Tried::Done(py.None().into_bound(py)));
        }
        if !self.viewed {
            self.data = PyMemoryView::from(data)?.call_method1(intern!(py, "cast"), ("B",))?.unbind();
            self.viewed = true;
        }
        Ok(left)
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.data)
    }
}

impl SendAll {
    fn send_by_method<'py>(&self, sock: &Bound<'py, PyAny>) -> PyResult<(usize, usize, Tried<'py>)> {
        let py = sock.py();
        let data = self.data.bind(py);
        let sent = if self.viewed {
            let rest = data.get_item(pyo3::types::PySlice::new(py, isize::try_from(self.sent)?, isize::MAX, 1))?;
            sock.call_method1(intern!(py, "send"), (rest,))
        } else {
            sock.call_method1(intern!(py, "send"), (data,))
        };
        let sent = match tried(sock, sent)? {
            Tried::Done(sent) => sent.extract()?,
            Tried::Blocked | Tried::Again => 0,
        };
        Ok((sent, with_bytes(data, <[u8]>::len)?, Tried::Again))
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

struct Accept;

impl Call for Accept {
    const DIRECTION: Direction = Direction::Read;

    fn attempt<'py>(&mut self, sock: &Bound<'py, PyAny>) -> Attempt<'py> {
        let py = sock.py();
        let accepted = tried(sock, method0(sock, intern!(py, "accept")))?;
        if let Tried::Done(accepted) = &accepted {
            accepted.get_item(0)?.call_method1(intern!(py, "setblocking"), (false,))?;
        }
        Ok(accepted)
    }

    fn traverse(&self, _visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        Ok(())
    }
}
