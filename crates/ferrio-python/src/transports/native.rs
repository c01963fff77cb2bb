//! Protocols that are ours: what was received goes from the transport to them in Rust, without a `bytes` and without a
//! call into Python.
//!
//! A class of protocols implements [`NativeProtocol`] and is [registered](register) when the module is made. From then
//! on a transport looks in the register when it looks for a protocol's methods, which is once for each protocol that it
//! is given; so `transports` need not know the classes, which lie above it. Only objects of the very class are handed
//! their data so, and only if nobody has put another `data_received` in the place of the class's: everything else
//! has its `data_received` called, as any protocol.
//!
//! All other methods of a protocol are called by their names. They are rare.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyType};
use pyo3::{PyClass, PyTraverseError, gc::PyVisit};

use crate::ffi::cell::GilCell;
use crate::loop_ref::LoopCore;

/// A class of protocols that takes what was received in Rust.
///
/// For each piece of data both functions are called, [`take_in`](Self::take_in) first. They are two because the bytes
/// lie in memory that all transports share: they are gone as soon as any Python code runs.
pub(crate) trait NativeProtocol: PyClass {
    /// Keeps what it needs of `data`, which is not empty. Must run no Python code, the drop of a reference included.
    fn take_in(this: &Bound<'_, Self>, data: &[u8]);

    /// Does what follows from what was taken in, and says whose code that ran. Can run Python code: the protocol may
    /// close the transport, pause it, or give it another protocol.
    ///
    /// # Errors
    ///
    /// What `data_received` would raise; the transport does with it what it does then.
    fn received(this: &Bound<'_, Self>) -> PyResult<Ran>;

    /// Does both at once, where data may be used while Python code runs: who has it calls this then, with memory that
    /// is its own for the time.
    ///
    /// # Errors
    ///
    /// As [`received`](Self::received).
    fn receive(this: &Bound<'_, Self>, data: &[u8]) -> PyResult<Ran> {
        Self::take_in(this, data);
        Self::received(this)
    }

    /// Whether [`receive`](Self::receive) saves a copy.
    const RECEIVES: bool = false;

    /// Called when there is much to receive, on the loop of `core`: wakes a coroutine that waits for as much, so that
    /// it receives by itself when it runs, from [`SocketTransport::fetch`](super::SocketTransport::fetch). `None` if
    /// there is no such coroutine.
    ///
    /// # Errors
    ///
    /// As [`received`](Self::received).
    fn wake_to_fetch(_this: &Bound<'_, Self>, _core: &Bound<'_, LoopCore>) -> PyResult<Option<Ran>> {
        Ok(None)
    }
}

/// Whose code has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ran {
    /// Ours alone: nothing was done that the program can tell, but that something is queued.
    Ours,
    /// Perhaps the program's too.
    Anybodys,
}

type Receive = fn(&Bound<'_, PyAny>, &[u8]) -> PyResult<Ran>;

/// A class's functions.
#[derive(Debug)]
struct Table {
    take_in: fn(&Bound<'_, PyAny>, &[u8]),
    received: fn(&Bound<'_, PyAny>) -> PyResult<Ran>,
    receive: Option<Receive>,
    wake_to_fetch: fn(&Bound<'_, PyAny>, &Bound<'_, LoopCore>) -> PyResult<Option<Ran>>,
}

struct TableOf<T>(std::marker::PhantomData<T>);

impl<T: NativeProtocol> TableOf<T> {
    const TABLE: &'static Table = &Table {
        take_in: |object, data| {
            if let Ok(this) = object.cast::<T>() {
                T::take_in(this, data);
            }
        },
        received: |object| T::received(object.cast::<T>()?),
        receive: if T::RECEIVES { Some(|object, data| T::receive(object.cast::<T>()?, data)) } else { None },
        wake_to_fetch: |object, core| T::wake_to_fetch(object.cast::<T>()?, core),
    };
}

/// The classes, of which there are few.
static REGISTER: GilCell<Vec<(Py<PyType>, &'static Table)>> = GilCell::new(Vec::new());

/// Has transports hand data to objects of class `T` in Rust. To be called once, when the module is made.
pub(crate) fn register<T: NativeProtocol>(py: Python<'_>) {
    let class = py.get_type::<T>().unbind();
    REGISTER.with(py, |register| register.push((class, TableOf::<T>::TABLE)));
}

/// A protocol that is handed its data in Rust.
#[derive(Debug)]
pub(crate) struct Native {
    object: Py<PyAny>,
    table: &'static Table,
}

impl Native {
    /// `protocol`, if it is of a class in the register and its `data_received` is the class's own. Can run Python code.
    pub(super) fn find(protocol: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let py = protocol.py();
        let class = protocol.get_type();
        let table = REGISTER.with(py, |register| {
            register.iter().find(|(registered, _)| registered.is(&class)).map(|(_, table)| *table)
        });
        let Some(table) = table else { return Ok(None) };
        // A method of ours is a function of the interpreter's that is bound to the object; a stand-in is anything else.
        let is_own = protocol.getattr(intern!(py, "data_received"))?.is_exact_instance_of::<PyCFunction>();
        Ok(is_own.then(|| Self { object: protocol.clone().unbind(), table }))
    }

    #[inline]
    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self { object: self.object.clone_ref(py), table: self.table }
    }

    /// See [`NativeProtocol::take_in`]. Runs no Python code.
    #[inline]
    pub(crate) fn take_in(&self, py: Python<'_>, data: &[u8]) {
        (self.table.take_in)(self.object.bind(py), data);
    }

    /// See [`NativeProtocol::received`]. Can run Python code.
    ///
    /// # Errors
    ///
    /// What `data_received` would raise.
    #[inline]
    pub(crate) fn received(&self, py: Python<'_>) -> PyResult<Ran> {
        (self.table.received)(self.object.bind(py))
    }

    /// See [`NativeProtocol::wake_to_fetch`]. Can run Python code, of another loop that is called.
    ///
    /// # Errors
    ///
    /// What `data_received` would raise.
    pub(crate) fn wake_to_fetch(&self, py: Python<'_>, core: &Bound<'_, LoopCore>) -> PyResult<Option<Ran>> {
        (self.table.wake_to_fetch)(self.object.bind(py), core)
    }

    /// [`NativeProtocol::receive`], where it saves a copy. Can run Python code.
    #[inline]
    pub(super) fn receiver(&self) -> Option<impl Fn(Python<'_>, &[u8]) -> PyResult<Ran>> {
        self.table.receive.map(|receive| move |py: Python<'_>, data: &[u8]| receive(self.object.bind(py), data))
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)
    }
}
