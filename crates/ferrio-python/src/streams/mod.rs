//! Streams: connections that coroutines read from and write to.
//!
//! | file | what |
//! |---|---|
//! | [`reader`] | `StreamReader`: what was received, and the coroutines that wait for it |
//! | [`writer`] | `StreamWriter`: a transport, and the coroutines that wait for it |
//! | [`protocol`] | `StreamReaderProtocol`: from a transport to a reader |
//! | [`closed`] | what `wait_closed` awaits |
//! | [`flow`] | `FlowControlMixin`: who waits while writing is paused |
//! | [`open`] | `open_connection`, `start_server` and their relatives for Unix sockets |
//!
//! # Between a transport and a reader
//!
//! A `StreamReaderProtocol` is a [native protocol](crate::transports::native): the bytes go from the memory that the
//! kernel wrote into the reader's buffer, and the task that waits for them into the ready queue, with no Python object
//! made and no Python code run. A writer knows a transport of ours, and calls it in Rust. Everything works with a
//! foreign loop and its transports as well, by the methods that asyncio's own streams call.
//!
//! # Subclasses
//!
//! A reader or protocol is *plain* if its class is ours, or a class that Python derives from ours without another
//! version of the methods that matter. Only a plain one is worked on without a call of its methods.
//!
//! # Budget of a message
//!
//! | step | allocations | calls into Python | system calls |
//! |---|---|---|---|
//! | it arrives | one `bytes`, if a `read` or a large `readexactly` waits for it; else none but the buffer's growth | none | one `recv` |
//! | the task that waits goes on | one `bytes`, if not in `read` | the task's coroutine | |
//! | `read`, `readline`, ... of what is there | one `bytes` | none | none |
//! | `write` | none | none | one `send` |
//! | `drain` while writing is not paused | none | none | none |
//!
//! The coroutines that `read` and `drain` return are used again and again; the future that a waiting `read` leaves in
//! the reader comes from a pool. An echo costs one wait of the loop, one `recv` and one `send`: the turn that feeds a
//! reader runs no code of the program's, and the loop does not look at the kernel between it and the turn in which the
//! task goes on.

mod closed;
mod flow;
mod open;
mod protocol;
mod reader;
mod writer;

use pyo3::prelude::*;

use crate::classes;
use crate::ffi::async_function::{self, install};
use crate::ffi::{finalizer, method};
use crate::transports::native;

pub(crate) use closed::Closed;
pub(crate) use flow::FlowControlMixin;
pub(crate) use protocol::StreamReaderProtocol;
pub(crate) use reader::StreamReader;
pub(crate) use writer::StreamWriter;

/// How many bytes a reader buffers by default before it has the transport pause: half of what it can come to.
pub(crate) const DEFAULT_LIMIT: usize = 64 * 1024;

/// Adds the classes and functions to the module.
pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    classes::add::<FlowControlMixin>(module)?;
    install::<flow::Drained>(&py.get_type::<FlowControlMixin>())?;
    classes::add::<StreamReaderProtocol>(module)?;
    native::register::<StreamReaderProtocol>(py);
    reader::add(module)?;
    classes::add::<StreamWriter>(module)?;
    finalizer::install_with_deallocator::<StreamWriter>(py)?;
    method::install::<writer::Write>(py)?;
    let class = &py.get_type::<StreamWriter>();
    install::<writer::StreamWriterDrain>(class)?;
    install::<writer::StreamWriterWaitClosed>(class)?;
    install::<writer::StreamWriterStartTls>(class)?;
    module.add("open_connection", async_function::make::<open::OpenConnection>(py)?)?;
    module.add("open_unix_connection", async_function::make::<open::OpenUnixConnection>(py)?)?;
    module.add("start_server", async_function::make::<open::StartServer>(py)?)?;
    module.add("start_unix_server", async_function::make::<open::StartUnixServer>(py)?)
}

/// Attributes that are kept as they are given, None until then.
macro_rules! attributes {
    ($class:ident { $($(#[$doc:meta])* $name:ident: $field:ident, $get:ident, $set:ident;)* }) => {
        #[pymethods]
        impl $class {$(
            $(#[$doc])*
            #[getter($name)]
            fn $get(&self, py: Python<'_>) -> Option<Py<PyAny>> {
                self.$field.clone_ref(py)
            }

            #[setter($name)]
            fn $set(&self, py: Python<'_>, value: Option<Py<PyAny>>) {
                drop(self.$field.replace(py, value));
            }
        )*}
    };
}

pub(crate) use attributes;
