//! Beginning, failing, closing, and the protocol's last call, in the order that a `SocketTransport` has them.

use ferrio::engine::{Direction, Flow};
use ferrio::net::Batch;
use pyo3::intern;
use pyo3::prelude::*;

use super::read::LARGEST_BATCH;
use super::recent::Recent;
use super::send::Output;
use super::{Beginning, DatagramTransport, Family, Flags, NewDatagramTransport};
use crate::asyncio;
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::newborn;
use crate::ffi::runnable::{Job, runnable};
use crate::transports::callback;
use crate::transports::endpoint::Endpoint;
use crate::transports::protocol::Protocol;
use crate::transports::source::Source;
use crate::transports::transport::{DescriptorTransport, Transport};

/// A transport that has been made: `connection_made`, and from then on it reads.
struct Begin;

impl Job for Begin {
    type Class = DatagramTransport;

    fn run(this: &Bound<'_, DatagramTransport>) -> Flow {
        let (py, transport) = (this.py(), this.get());
        callback::run(transport.core(py), transport.context.bind(py), this.as_any(), || DatagramTransport::begin(this))
    }
}

/// A transport that is lost.
struct Lost;

impl Job for Lost {
    type Class = DatagramTransport;

    fn run(this: &Bound<'_, DatagramTransport>) -> Flow {
        let (py, transport) = (this.py(), this.get());
        let lost = || DatagramTransport::connection_lost(this);
        callback::run(transport.core(py), transport.context.bind(py), this.as_any(), lost)
    }
}

impl DatagramTransport {
    /// Makes a transport, and queues its beginning.
    ///
    /// # Errors
    ///
    /// `RuntimeError` if another transport has the descriptor, or the loop is closed; `ValueError` if the socket is.
    pub(crate) fn create<'py>(new: NewDatagramTransport<'py>) -> PyResult<Bound<'py, Self>> {
        let py = new.core.py();
        let core = new.core.get();
        core.check_open(py)?;
        let socket = &new.socket;
        let fd = socket.call_method0(intern!(py, "fileno"))?.extract()?;
        core.descriptors().admit(py, fd)?;
        let family = match socket.getattr(intern!(py, "family"))?.extract()? {
            libc::AF_INET => Family::V4,
            libc::AF_INET6 => Family::V6,
            _ => Family::Other,
        };
        let name_by = |method| socket.call_method0(method).ok();
        let local_name = name_by(intern!(py, "getsockname")).map(Bound::unbind);
        // The end of a Unix socket without a name is known to the kernel, but an empty text here.
        let peer_name = name_by(intern!(py, "getpeername"));
        let connected = peer_name.as_ref().map_or(Ok(false), |name| name.is_truthy())?;
        let view = asyncio::transport_socket_class(py)?.call1((socket,))?.unbind();
        let transport = Self {
            core: new.core.clone().unbind(),
            context: new.context,
            source: Source::new(py, core, fd)?,
            family,
            remote: new.remote,
            local_name,
            peer_name: peer_name.map(Bound::unbind),
            connected,
            flags: GilCopy::new(Flags::default()),
            lost: GilCopy::new(0),
            recent: Recent::default(),
            batch: GilCopy::new(Batch::new(LARGEST_BATCH)),
            protocol: Protocol::new(new.protocol.unbind()),
            output: GilCell::new(Output::default()),
            endpoint: GilCell::new(Endpoint::Socket(new.socket.unbind())),
            socket: GilCell::new(Some(view)),
            beginning: GilCell::new(Some(Box::new(Beginning { waiter: new.waiter }))),
            failure: GilCell::default(),
        };
        let this = newborn::make(py, transport)?.into_bound(py);
        Self::take_descriptor(&this, &this.get().source)?;
        core.push(py, runnable::<Begin>(this.clone().unbind()));
        Ok(this)
    }

    fn begin(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let protocol = transport.protocol.get(py);
        let made = Self::tell_made(this);
        let flags = transport.flags.get(py);
        let watched = if flags.closing || flags.paused { Ok(()) } else { Self::watch_reads(this) };
        let watched = watched.or_else(|error| Self::fatal_error(this, error, "Fatal read error on datagram transport"));
        let waiter = transport.beginning.take(py).and_then(|beginning| beginning.waiter);
        Self::tell_waiter_of_beginning(this, protocol, waiter)?;
        made.and(watched)
    }

    pub(super) fn resume_reading(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let flags = transport.flags.get(py);
        if flags.closing || !flags.paused {
            return Ok(());
        }
        transport.change(py, |flags| flags.paused = false);
        // Before it has begun, the beginning will see to it.
        let has_begun = transport.beginning.with(py, |beginning| beginning.is_none());
        if has_begun { Self::watch_reads(this) } else { Ok(()) }
    }

    /// Closes the transport when what is buffered has been sent.
    pub(super) fn close(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        if transport.flags.get(py).closing {
            return Ok(());
        }
        transport.change(py, |flags| flags.closing = true);
        transport.source.unwatch(transport.core(py), Direction::Read);
        // A watch without a buffer is one that was left after an error; its turn finds the transport lost.
        if transport.output.with(py, |output| output.is_empty()) { Self::lose(this) } else { Ok(()) }
    }

    pub(super) fn lose(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        transport.source.unwatch(transport.core(py), Direction::Write);
        transport.lost.set(py, 1);
        let core = transport.core(py).get();
        core.admit(py)?;
        core.push(py, runnable::<Lost>(this.clone().unbind()));
        Ok(())
    }

    /// Tells the protocol, and gives up everything.
    pub(super) fn connection_lost(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let failure = transport.failure.take(py).unwrap_or_else(|| py.None()).into_bound(py);
        let told = Self::tell_lost(this, &failure);
        let closed = Self::give_up(this);
        transport.protocol.set(py, None);
        told.and(closed)
    }
}
