//! From the protocol to the kernel, and flow control.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use ferrio::engine::{Direction, Flow};
use ferrio::net::{Transfer, socket};
use ferrio::stream::{FlowControl, Limits};
use pyo3::PyTraverseError;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

use super::read::is_blocked;
use super::{DatagramTransport, Family};
use crate::asyncio;
use crate::ffi::buffer::with_bytes;
use crate::ffi::method::{CallArguments, FastMethod};
use crate::ffi::runnable::Job;
use crate::os_error::os_error;
use crate::transports::callback;
use crate::transports::chunk::is_sendable;
use crate::transports::endpoint::Endpoint;
use crate::transports::transport::Transport;

/// After so many sends to a lost transport the log is told.
const SENDS_BEFORE_WARNING: u32 = 5;

/// What a datagram counts for in the buffer beside its bytes: empty ones must fill it too.
const HEADER: usize = 8;

/// A datagram that waits to be sent.
pub(super) struct Waiting {
    data: Py<PyBytes>,
    length: usize,
    to: Py<PyAny>,
}

/// What waits to be sent.
#[derive(Default)]
pub(super) struct Output {
    queue: VecDeque<Waiting>,
    size: usize,
    flow: FlowControl,
}

impl Output {
    /// What was in it, which may run Python code when it is dropped.
    #[must_use]
    pub(super) fn take(&mut self) -> VecDeque<Waiting> {
        self.size = 0;
        std::mem::take(&mut self.queue)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn limits(&self) -> Limits {
        self.flow.limits()
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.queue.iter().try_for_each(|waiting| visit.call(&waiting.to))
    }
}

/// A transport that has room for output, or an error to be told of.
struct WriteReady;

impl Job for WriteReady {
    type Class = DatagramTransport;

    fn run(this: &Bound<'_, DatagramTransport>) -> Flow {
        let (py, transport) = (this.py(), this.get());
        callback::run(transport.core(py), transport.context.bind(py), this.as_any(), || DatagramTransport::flush(this))
    }
}

/// `DatagramTransport.sendto`.
pub(crate) struct SendTo;

impl FastMethod for SendTo {
    type Class = DatagramTransport;

    const NAME: &'static CStr = c"sendto";

    const DOC: &'static CStr = c"sendto($self, data, addr=None)\n--\n\n\
        Sends `data`, a bytes, bytearray or memoryview, as one datagram to `addr`, which may be left out if the transport\n\
        has a remote address; or buffers what the kernel does not take now. Does not block. Errors of the system go to the\n\
        protocol's `error_received`.\n\n\
        Raises TypeError for what has no bytes, ValueError for another address than the transport's.";

    #[inline]
    fn call<'py>(
        slf: &Bound<'py, DatagramTransport>,
        arguments: &CallArguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let none = slf.py().None().into_bound(slf.py());
        let [data, to] = arguments.bind("sendto", ["data", "addr"], 1, 2)?;
        if let Some(data) = data {
            DatagramTransport::send(slf, &data, to.map_or_else(|| none.clone(), |to| to.to_owned()))?;
        }
        Ok(none)
    }
}

impl DatagramTransport {
    fn send<'py>(this: &Bound<'py, Self>, data: &Bound<'py, PyAny>, mut to: Bound<'py, PyAny>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        if !is_sendable(data) {
            let class = data.get_type().name()?;
            let text = format!("data argument must be a bytes-like object, not {}", class.repr()?);
            return Err(PyTypeError::new_err(text));
        }
        if let Some(remote) = &transport.remote {
            let remote = remote.bind(py);
            if !to.is_none() && !to.eq(remote)? {
                let text = format!("Invalid address: must be None or {}", remote.str()?);
                return Err(PyValueError::new_err(text));
            }
            to = remote.clone();
        }
        let lost = transport.lost.get(py);
        if lost != 0 && transport.remote.is_some() {
            if lost >= SENDS_BEFORE_WARNING {
                asyncio::logger(py)?.call_method1(intern!(py, "warning"), ("socket.send() raised exception.",))?;
            }
            transport.lost.set(py, lost.saturating_add(1));
            return Ok(());
        }
        // Its socket may be closed, and its number another's.
        if !transport.endpoint.with(py, |endpoint| endpoint.is_open()) {
            return Ok(());
        }
        if transport.output.with(py, |output| output.is_empty()) {
            match transport.send_now(data, &to) {
                Ok(true) => return Ok(()),
                Ok(false) => Self::watch_writes(this)?,
                Err(error) => return Self::failed(this, error, "Fatal write error on datagram transport"),
            }
        }
        let data = match data.cast_exact::<PyBytes>() {
            Ok(bytes) => bytes.clone(),
            // What is kept must not change.
            Err(_) => with_bytes(data, |bytes| PyBytes::new(py, bytes))?,
        };
        let length = data.as_bytes().len();
        let waiting = Waiting { data: data.unbind(), length, to: to.unbind() };
        transport.output.with(py, |output| {
            output.queue.push_back(waiting);
            output.size += length + HEADER;
        });
        Self::output_grew(this)
    }

    /// Sends one datagram; false if there is no room for it.
    fn send_now(&self, data: &Bound<'_, PyAny>, to: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = data.py();
        let fd = self.source.fd();
        // Who has a peer without a name, such as one of a pair of Unix sockets, need not name it.
        let sent = if self.connected || (to.is_none() && self.peer_name.is_some()) {
            with_bytes(data, |bytes| socket::send(fd, bytes))?
        } else if let Some(to) = self.numeric(to)? {
            with_bytes(data, |bytes| socket::send_to(fd, bytes, &to))?
        } else {
            let Some(socket) = Endpoint::socket(&self.endpoint, py)? else { return Ok(true) };
            return match socket.call_method1(intern!(py, "sendto"), (data, to)) {
                Ok(_) => Ok(true),
                Err(error) if is_blocked(py, &error) => Ok(false),
                Err(error) => Err(error),
            };
        };
        Ok(sent.map_err(|error| os_error(py, &error))? != Transfer::WouldBlock)
    }

    /// An address of the socket's family that is nothing but numbers.
    fn numeric(&self, to: &Bound<'_, PyAny>) -> PyResult<Option<SocketAddr>> {
        if let Some(address) = self.recent.find(to) {
            return Ok(Some(address));
        }
        let Ok(to) = to.cast_exact::<PyTuple>() else { return Ok(None) };
        if to.len() < 2 {
            return Ok(None);
        }
        let host = to.get_item(0)?;
        let Ok(host) = host.cast_exact::<PyString>() else { return Ok(None) };
        let (Ok(host), Ok(port)) = (host.to_str()?.parse(), to.get_item(1)?.extract()) else { return Ok(None) };
        Ok(match (self.family, host, to.len()) {
            (Family::V4, IpAddr::V4(_), 2) | (Family::V6, IpAddr::V6(_), 2) => Some(SocketAddr::new(host, port)),
            (Family::V6, IpAddr::V6(host), 4) => {
                let (Ok(flow), Ok(scope)) = (to.get_item(2)?.extract::<u32>(), to.get_item(3)?.extract()) else {
                    return Ok(None);
                };
                // The flow label has 20 bits; the socket has the words for more. It alone is kept in the order of the
                // network.
                (flow < 1 << 20).then(|| SocketAddrV6::new(host, port, flow.to_be(), scope).into())
            }
            _ => None,
        })
    }

    fn flush(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        if transport.is_lost(py) {
            return Ok(());
        }
        while let Some(waiting) = transport.output.with(py, |output| {
            let waiting = output.queue.pop_front()?;
            output.size -= waiting.length + HEADER;
            Some(waiting)
        }) {
            match transport.send_now(waiting.data.bind(py).as_any(), waiting.to.bind(py)) {
                Ok(true) => {}
                Ok(false) => {
                    transport.output.with(py, |output| {
                        output.size += waiting.length + HEADER;
                        output.queue.push_front(waiting);
                    });
                    break;
                }
                // The rest goes in the next turn: the watch is left.
                Err(error) => return Self::failed(this, error, "Fatal write error on datagram transport"),
            }
        }
        Self::output_shrank(this)?;
        // The protocol has had its say in between.
        if transport.is_lost(py) || !transport.output.with(py, |output| output.is_empty()) {
            return Ok(());
        }
        transport.source.unwatch(transport.core(py), Direction::Write);
        if transport.flags.get(py).closing {
            transport.lost.set(py, 1);
            return Self::connection_lost(this);
        }
        Ok(())
    }

    fn watch_writes(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        transport.source.watch::<WriteReady>(transport.core(py), Direction::Write, this)
    }

    pub(super) fn set_limits(this: &Bound<'_, Self>, high: Option<i64>, low: Option<i64>) -> PyResult<()> {
        let limits = Limits::new(high, low).map_err(|error| PyValueError::new_err(error.to_string()))?;
        this.get().output.with(this.py(), |output| output.flow.set_limits(limits));
        Self::output_grew(this)
    }

    fn output_grew(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let pause = this.get().output.with(py, |output| output.flow.grown(output.size));
        if pause { Self::tell_producer(this, intern!(py, "pause_writing")) } else { Ok(()) }
    }

    fn output_shrank(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let resume = this.get().output.with(py, |output| output.flow.shrunk(output.size));
        if resume { Self::tell_producer(this, intern!(py, "resume_writing")) } else { Ok(()) }
    }
}
