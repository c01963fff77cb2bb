//! The protocol of a transport.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::asyncio;
use crate::ffi::call::{method0, method1};
use crate::ffi::cell::GilCell;
use crate::transports::native::Native;

/// How a protocol is given what was received: found once, so that a message costs no lookup.
#[derive(Debug)]
pub(crate) enum Receiver {
    /// `data_received(bytes)`.
    Data(Py<PyAny>),
    /// A protocol of ours, Rust to Rust.
    Native(Native),
    /// A `BufferedProtocol`: `get_buffer(sizehint)`, then `buffer_updated(count)`.
    Buffered { get_buffer: Py<PyAny>, buffer_updated: Py<PyAny> },
}

impl Receiver {
    fn new(protocol: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = protocol.py();
        if let Some(native) = Native::find(protocol)? {
            return Ok(Self::Native(native));
        }
        if protocol.is_instance(asyncio::buffered_protocol_class(py)?)? {
            return Ok(Self::Buffered {
                get_buffer: protocol.getattr(intern!(py, "get_buffer"))?.unbind(),
                buffer_updated: protocol.getattr(intern!(py, "buffer_updated"))?.unbind(),
            });
        }
        Ok(Self::Data(protocol.getattr(intern!(py, "data_received"))?.unbind()))
    }

    #[inline]
    fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Data(method) => Self::Data(method.clone_ref(py)),
            Self::Native(native) => Self::Native(native.clone_ref(py)),
            Self::Buffered { get_buffer, buffer_updated } => {
                Self::Buffered { get_buffer: get_buffer.clone_ref(py), buffer_updated: buffer_updated.clone_ref(py) }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    object: Option<Py<PyAny>>,
    /// Looked up when the first message comes: until then a protocol may still get its methods.
    receiver: Option<Receiver>,
}

/// The protocol of a transport; none once the connection is lost.
#[derive(Debug, Default)]
pub(crate) struct Protocol(GilCell<Inner>);

impl Protocol {
    pub(crate) fn new(object: Py<PyAny>) -> Self {
        Self(GilCell::new(Inner { object: Some(object), receiver: None }))
    }

    pub(crate) fn get<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.0.with(py, |inner| inner.object.as_ref().map(|object| object.bind(py).clone()))
    }

    /// Puts another in its place, which gets everything from now on.
    pub(crate) fn set(&self, py: Python<'_>, object: Option<Py<PyAny>>) {
        drop(self.0.replace(py, Inner { object, receiver: None }));
    }

    /// How to hand over what was received; `None` if there is no protocol any more. Can run Python code.
    #[inline]
    pub(crate) fn receiver(&self, py: Python<'_>) -> PyResult<Option<Receiver>> {
        match self.0.with(py, |inner| inner.receiver.as_ref().map(|receiver| receiver.clone_ref(py))) {
            Some(receiver) => Ok(Some(receiver)),
            None => self.find_receiver(py),
        }
    }

    #[cold]
    fn find_receiver(&self, py: Python<'_>) -> PyResult<Option<Receiver>> {
        let Some(object) = self.get(py) else { return Ok(None) };
        let receiver = Receiver::new(&object)?;
        let kept = receiver.clone_ref(py);
        // Looking it up may have run anything, and be out of date already.
        let previous = self.0.with(py, |inner| {
            let is_same = inner.object.as_ref().is_some_and(|own| own.is(&object));
            if is_same { inner.receiver.replace(kept) } else { Some(kept) }
        });
        drop(previous);
        Ok(Some(receiver))
    }

    /// Calls a method without arguments, if there is a protocol.
    pub(crate) fn call0<'py>(&self, name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.get(name.py()).map(|object| method0(&object, name)).transpose()
    }

    /// Calls a method with one argument, if there is a protocol.
    pub(crate) fn call1<'py>(
        &self,
        name: &Bound<'py, PyString>,
        argument: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.get(name.py()).map(|object| method1(&object, name, argument)).transpose()
    }

    pub(crate) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit, |inner, visit| {
            visit.call(&inner.object)?;
            match &inner.receiver {
                Some(Receiver::Data(method)) => visit.call(method),
                Some(Receiver::Native(native)) => native.traverse(visit),
                Some(Receiver::Buffered { get_buffer, buffer_updated }) => {
                    visit.call(get_buffer)?;
                    visit.call(buffer_updated)
                }
                None => Ok(()),
            }
        })
    }
}
