//! From readiness to the protocol.
//!
//! A turn receives a [batch](ferrio::net::Batch) of datagrams, and goes on with others then, so that a flood starves
//! nobody.

use ferrio::engine::{Direction, Flow};

use ferrio::net::socket;
use ferrio::stream::SCRATCH;
use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyOSError};
use pyo3::intern;
use pyo3::prelude::*;

use super::{DatagramTransport, Family};
use crate::asyncio;
use crate::ffi::bytes;
use crate::ffi::call::{method1, method2};
use crate::ffi::cell::GilCell;
use crate::ffi::raise::settled;
use crate::ffi::runnable::Job;
use crate::os_error::os_error;
use crate::transports::callback;
use crate::transports::endpoint::Endpoint;
use crate::transports::transport::DescriptorTransport;

/// The most datagrams that are received in one turn.
pub(super) const LARGEST_BATCH: u32 = 16;

/// The largest datagram of a family other than IP that is received whole, in bytes.
const LARGEST: usize = 256 * 1024;

/// Where datagrams of IP are received, of which none is larger. Nothing is in it between two calls.
static SHARED: GilCell<[u8; SCRATCH]> = GilCell::new([0; SCRATCH]);

/// A datagram and its sender's address.
type Datagram<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

/// A transport that has a datagram or an error to read.
struct ReadReady;

impl Job for ReadReady {
    type Class = DatagramTransport;

    fn run(this: &Bound<'_, DatagramTransport>) -> Flow {
        let (py, transport) = (this.py(), this.get());
        callback::run(transport.core(py), transport.context.bind(py), this.as_any(), || {
            DatagramTransport::read_ready(this)
        })
    }
}

impl DatagramTransport {
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
        if flags.closing || transport.is_lost(py) {
            return Ok(());
        }
        if flags.paused {
            transport.source.unwatch(transport.core(py), Direction::Read);
            return Ok(());
        }
        let mut batch = transport.batch.get(py);
        for received in 0..batch.size() {
            match transport.receive(py) {
                Ok(Some((data, sender))) => {
                    let Some(protocol) = transport.protocol.get(py) else { return Ok(()) };
                    method2(&protocol, intern!(py, "datagram_received"), &data, &sender)?;
                }
                Ok(None) => {
                    batch.was_not_filled(received);
                    transport.batch.set(py, batch);
                    return Ok(());
                }
                Err(error) => return Self::failed(this, error, "Fatal read error on datagram transport"),
            }
            // The protocol has had its say.
            if transport.is_lost(py) || !transport.is_reading(py) {
                return Ok(());
            }
        }
        batch.was_filled();
        transport.batch.set(py, batch);
        Ok(())
    }

    /// `None` if there is no datagram.
    fn receive<'py>(&self, py: Python<'py>) -> PyResult<Option<Datagram<'py>>> {
        if self.family == Family::Other {
            return self.receive_by_method(py);
        }
        let received = SHARED.with(py, |shared| match socket::recv_from(self.source.fd(), shared) {
            Ok(Some((count, sender))) => bytes::copy(py, &shared[..count]).map(|data| Ok(Some((data, sender)))),
            Ok(None) => Ok(Ok(None)),
            Err(error) => Ok(Err(error)),
        });
        let Some((data, sender)) = received?.map_err(|error| os_error(py, &error))? else { return Ok(None) };
        Ok(Some((data.into_any(), self.recent.to_python(py, sender)?)))
    }

    fn receive_by_method<'py>(&self, py: Python<'py>) -> PyResult<Option<Datagram<'py>>> {
        let Some(socket) = Endpoint::socket(&self.endpoint, py)? else { return Ok(None) };
        match method1(&socket, intern!(py, "recvfrom"), LARGEST.into_pyobject(py)?.as_any()) {
            Ok(received) => received.extract().map(Some),
            Err(error) if is_blocked(py, &error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Tells the protocol of an error of the system; any other ends the transport.
    #[cold]
    pub(super) fn failed(this: &Bound<'_, Self>, error: PyErr, message: &'static str) -> PyResult<()> {
        let py = this.py();
        let error = settled(py, error);
        if asyncio::leaves_the_loop(py, &error) || !error.is_instance_of::<PyOSError>(py) {
            return Self::fatal_error(this, error, message);
        }
        let error = error.into_value(py).into_bound(py);
        this.get().protocol.call1(intern!(py, "error_received"), error.as_any()).map(drop)
    }
}

pub(super) fn is_blocked(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyBlockingIOError>(py) || error.is_instance_of::<PyInterruptedError>(py)
}
