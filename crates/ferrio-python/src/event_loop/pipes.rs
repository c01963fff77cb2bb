//! Pipes that are given.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::EventLoop;
use super::weak_loop::WeakLoop;
use crate::asyncio;
use crate::coroutine::{Coroutine, await_};
use crate::ffi::call::call0;
use crate::ffi::context;
use crate::futures::Future;
use crate::transports::{NewPipe, ReadPipeTransport, WritePipeTransport};

#[pymethods]
impl EventLoop {
    /// Reads from `pipe`, a file object of a pipe, a FIFO, a terminal or a socket; returns the transport and the
    /// protocol that `protocol_factory()` made. The transport makes the pipe non-blocking, and closes it.
    ///
    /// Raises ValueError for another kind of file.
    fn connect_read_pipe<'py>(
        slf: &Bound<'py, Self>,
        protocol_factory: Py<PyAny>,
        pipe: Py<PyAny>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let event_loop = WeakLoop::new(slf)?;
        Coroutine::new(slf.py(), "BaseEventLoop.connect_read_pipe", async move {
            connect(&event_loop, protocol_factory, pipe, Side::Read).await
        })
    }

    /// Writes to `pipe`, as `connect_read_pipe` reads from one.
    fn connect_write_pipe<'py>(
        slf: &Bound<'py, Self>,
        protocol_factory: Py<PyAny>,
        pipe: Py<PyAny>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let event_loop = WeakLoop::new(slf)?;
        Coroutine::new(slf.py(), "BaseEventLoop.connect_write_pipe", async move {
            connect(&event_loop, protocol_factory, pipe, Side::Write).await
        })
    }
}

#[derive(Clone, Copy)]
enum Side {
    Read,
    Write,
}

async fn connect(event_loop: &WeakLoop, factory: Py<PyAny>, pipe: Py<PyAny>, side: Side) -> PyResult<Py<PyAny>> {
    let (waiter, transport) = Python::attach(|py| {
        let this = event_loop.get(py)?;
        let context = context::copy_current(py)?;
        let protocol = call0(factory.bind(py))?;
        let waiter = Bound::new(py, Future::new(py, EventLoop::loop_ref(&this))?)?;
        let pipe = pipe.bind(py).clone();
        let new = NewPipe { core: this.as_super(), pipe, protocol, context, waiter: Some(waiter.clone().unbind()) };
        let transport = match side {
            Side::Read => ReadPipeTransport::create(new)?.into_any(),
            Side::Write => WritePipeTransport::create(new)?.into_any(),
        };
        // Held weakly: the loop has the transport, which has the waiter's result.
        PyResult::Ok((waiter.into_any().unbind(), PyWeakrefReference::new(&transport)?.unbind()))
    })?;
    let result = await_(waiter).await;
    Python::attach(|py| {
        match &result {
            Ok(pair) => log_connected(py, event_loop, &pipe, pair, side)?,
            Err(_) => {
                if let Some(transport) = transport.bind(py).upgrade() {
                    transport.call_method0(intern!(py, "close"))?;
                }
            }
        }
        result
    })
}

fn log_connected(
    py: Python<'_>,
    event_loop: &WeakLoop,
    pipe: &Py<PyAny>,
    pair: &Py<PyAny>,
    side: Side,
) -> PyResult<()> {
    if !event_loop.get(py)?.as_super().get().debug.get(py) {
        return Ok(());
    }
    let text = match side {
        Side::Read => "Read pipe %r connected: %r",
        Side::Write => "Write pipe %r connected: %r",
    };
    let number = pipe.bind(py).call_method0(intern!(py, "fileno"))?;
    asyncio::logger(py)?.call_method1(intern!(py, "debug"), (text, number, pair)).map(drop)
}
