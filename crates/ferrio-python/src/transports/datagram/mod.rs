//! `DatagramTransport`: a datagram socket, connected or not, as asyncio's selector loop has it.
//!
//! | file | topic |
//! |---|---|
//! | [`read`] | from readiness to the protocol |
//! | [`send`](mod@send) | from the protocol to the kernel, and flow control |
//! | [`recent`] | the peer that a datagram came from last |
//! | [`life`] | beginning, failing, closing, and the protocol's last call |
//! | [`methods`] | what Python sees |
//!
//! A transport is open, closing while datagrams wait to be sent, lost, and closed, in this order. An error of the
//! system is the affair of one datagram: it goes to `error_received`, and the transport goes on.
//!
//! Addresses of IP that are numbers go straight to the kernel and come straight from it. Names, and other families, are
//! left to the methods of the `socket`, which knows them all.

mod life;
mod methods;
mod read;
mod recent;
mod send;

pub(crate) use send::SendTo;

use std::sync::OnceLock;

use ferrio::engine::Direction;
use ferrio::net::Batch;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, ffi};

use self::recent::Recent;
use self::send::Output;
use super::endpoint::Endpoint;
use super::protocol::Protocol;
use super::source::Source;
use super::transport::{DescriptorTransport, Transport, give_descriptor_back};
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::finalizer::{Finalize, FinalizeFirst};
use crate::futures::Future;
use crate::loop_ref::LoopCore;

/// A datagram socket, as `asyncio.DatagramTransport`.
#[pyclass(frozen, dict, weakref, module = "ferrio")]
pub(crate) struct DatagramTransport {
    core: Py<LoopCore>,
    /// What the protocol's methods are called in.
    context: Py<PyAny>,
    source: Source,
    family: Family,
    /// Where all datagrams go, as `remote_addr` was given.
    remote: Option<Py<PyAny>>,
    local_name: Option<Py<PyAny>>,
    peer_name: Option<Py<PyAny>>,
    /// Whether the kernel knows where datagrams go.
    connected: bool,
    flags: GilCopy<Flags>,
    /// How often something was sent since the transport was lost, and 1 for the loss.
    lost: GilCopy<u32>,
    recent: Recent,
    /// How many datagrams are received in the next turn that finds some.
    batch: GilCopy<Batch>,
    protocol: Protocol,
    output: GilCell<Output>,
    endpoint: GilCell<Endpoint>,
    /// The `TransportSocket`.
    socket: GilCell<Option<Py<PyAny>>>,
    beginning: GilCell<Option<Box<Beginning>>>,
    /// What `connection_lost` will be given.
    failure: GilCell<Option<Py<PyAny>>>,
}

/// What a transport knows only until it has begun.
#[derive(Debug)]
struct Beginning {
    waiter: Option<Py<Future>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
    /// One of which the addresses are the socket's business.
    Other,
}

#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    /// `close()` was called, or something ended the transport.
    closing: bool,
    /// `pause_reading()` was called last.
    paused: bool,
}

/// What a transport is made of.
pub(crate) struct NewDatagramTransport<'py> {
    pub(crate) core: &'py Bound<'py, LoopCore>,
    pub(crate) socket: Bound<'py, PyAny>,
    pub(crate) protocol: Bound<'py, PyAny>,
    pub(crate) context: Py<PyAny>,
    pub(crate) remote: Option<Py<PyAny>>,
    /// Gets the transport and the protocol once `connection_made` has been called.
    pub(crate) waiter: Option<Py<Future>>,
}

impl DatagramTransport {
    fn core<'a, 'py>(&'a self, py: Python<'py>) -> &'a Bound<'py, LoopCore> {
        self.core.bind(py)
    }

    fn change(&self, py: Python<'_>, change: impl FnOnce(&mut Flags)) {
        let mut flags = self.flags.get(py);
        change(&mut flags);
        self.flags.set(py, flags);
    }

    fn is_lost(&self, py: Python<'_>) -> bool {
        self.lost.get(py) != 0
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.core)?;
        visit.call(&self.context)?;
        visit.call(&self.remote)?;
        visit.call(&self.local_name)?;
        visit.call(&self.peer_name)?;
        self.recent.traverse(visit)?;
        self.protocol.traverse(visit)?;
        self.output.traverse(visit, |output, visit| output.traverse(visit))?;
        self.endpoint.traverse(visit, |endpoint, visit| endpoint.traverse(visit))?;
        self.socket.traverse(visit, |socket, visit| visit.call(socket))?;
        self.beginning.traverse(visit, |beginning, visit| match beginning {
            Some(beginning) => visit.call(&beginning.waiter),
            None => Ok(()),
        })?;
        self.failure.traverse(visit, |failure, visit| visit.call(failure))
    }

    fn clear(&self, py: Python<'_>) {
        self.protocol.set(py, None);
        let waiting = self.output.with(py, Output::take);
        drop((waiting, self.failure.take(py), self.beginning.take(py)));
    }
}

impl Transport for DatagramTransport {
    fn parties<'a, 'py>(this: &'a Bound<'py, Self>) -> (&'a Bound<'py, LoopCore>, &'a Protocol) {
        (this.get().core(this.py()), &this.get().protocol)
    }
}

impl DescriptorTransport for DatagramTransport {
    fn is_open(this: &Bound<'_, Self>) -> bool {
        this.get().endpoint.with(this.py(), |endpoint| endpoint.is_open())
    }

    fn give_up(this: &Bound<'_, Self>) -> PyResult<()> {
        let (py, transport) = (this.py(), this.get());
        give_descriptor_back(transport.core(py), &transport.source);
        transport.endpoint.take(py).close(py)
    }

    fn force_close(this: &Bound<'_, Self>, failure: Option<Py<PyAny>>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        if transport.is_lost(py) {
            return Ok(());
        }
        let waiting = transport.output.with(py, Output::take);
        transport.change(py, |flags| flags.closing = true);
        transport.source.unwatch(transport.core(py), Direction::Read);
        drop(transport.failure.replace(py, failure));
        let lost = Self::lose(this);
        drop(waiting);
        lost
    }
}

impl Finalize for DatagramTransport {
    /// A transport that was not closed says so, and closes its socket.
    fn finalize(this: &Bound<'_, Self>) {
        Self::close_unclosed(this);
    }
}

impl FinalizeFirst for DatagramTransport {
    fn is_due(this: &Bound<'_, Self>) -> bool {
        Self::is_open(this)
    }

    fn deallocator() -> &'static OnceLock<ffi::destructor> {
        static DEALLOCATOR: OnceLock<ffi::destructor> = OnceLock::new();
        &DEALLOCATOR
    }
}
