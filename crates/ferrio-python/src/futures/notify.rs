//! Who is told by Rust that a future is done.
//!
//! Gather, groups, shields and `wait` each have something to do when a future ends, which in asyncio is a closure that
//! `add_done_callback` is given. Here it is an object and a function that is known when ferrio is compiled: the future
//! keeps both, and the loop's ready queue has the future itself as [`RunNotify`], in the place where the callback's
//! handle would be. Neither a handle nor a context nor a Python object is made for it.
//!
//! A notification that is due stays with its future, which is done and has no other callbacks any more, until its turn
//! comes: that is why the queue needs no second reference.

use ferrio::engine::Flow;
use pyo3::PyTraverseError;
use pyo3::exceptions::PyTypeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{PyClass, PyTypeInfo};

use super::Future;
use super::awaited_by;
use super::callbacks::Callback;
use crate::asyncio;
use crate::ffi::cell::GilCell;
use crate::ffi::raise::{raised, settled};
use crate::ffi::runnable::{Job, leave};
use crate::handles::watched;
use crate::loop_ref::report;

/// A way in which a class is told that a future is done. One class can have several.
pub(crate) trait Notified {
    type Class: PyClass + PyTypeInfo;

    /// What asyncio calls the function that is the callback there: it shows where a future is described.
    const NAME: &'static str;

    /// Does what is to be done. What it raises is reported like a callback's exception. Runs in no particular context.
    fn notified(owner: &Bound<'_, Self::Class>, future: &Bound<'_, PyAny>) -> PyResult<()>;
}

/// What there is to know of a way.
#[derive(Debug)]
struct Way {
    function: fn(&Bound<'_, PyAny>, &Bound<'_, PyAny>) -> PyResult<()>,
    name: &'static str,
}

/// One that is told.
#[derive(Debug)]
pub(crate) struct Notify {
    owner: Py<PyAny>,
    way: &'static Way,
    /// The task on whose behalf the owner waits: an edge of the call graph.
    awaiter: Option<Py<PyAny>>,
}

fn call<N: Notified>(owner: &Bound<'_, PyAny>, future: &Bound<'_, PyAny>) -> PyResult<()> {
    match owner.cast::<N::Class>() {
        Ok(owner) => N::notified(owner, future),
        Err(_) => Err(PyTypeError::new_err("a notification for another class")),
    }
}

impl Notify {
    #[inline]
    pub(crate) fn new<N: Notified>(owner: &Bound<'_, N::Class>, awaiter: Option<&Bound<'_, PyAny>>) -> Self {
        let awaiter = awaiter.map(|awaiter| awaiter.clone().unbind());
        let way = const { &Way { function: call::<N>, name: N::NAME } };
        Self { owner: owner.clone().into_any().unbind(), way, awaiter }
    }

    pub(super) fn awaiter(&self) -> Option<&Py<PyAny>> {
        self.awaiter.as_ref()
    }

    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        let awaiter = self.awaiter.as_ref().map(|awaiter| awaiter.clone_ref(py));
        Self { owner: self.owner.clone_ref(py), way: self.way, awaiter }
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.owner)?;
        visit.call(&self.awaiter)
    }

    /// As a callable, for what is not ours.
    pub(crate) fn into_callable(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Bound::new(py, Notification(GilCell::new(Some(self)))).map(Bound::into_any)
    }

    /// Whether it is `owner` that is told. An owner waits once for each future, so this says which notification it is.
    pub(super) fn is_of(&self, owner: &Bound<'_, PyAny>) -> bool {
        self.owner.is(owner)
    }

    /// Ends the edge of the call graph.
    pub(super) fn take_awaiter(&mut self) -> Option<Py<PyAny>> {
        self.awaiter.take()
    }

    fn call(self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        (self.way.function)(self.owner.bind(future.py()), future)
    }
}

/// A future in the ready queue that has somebody to tell.
pub(super) struct RunNotify;

impl Job for RunNotify {
    type Class = Future;

    #[inline]
    fn run(future: &Bound<'_, Future>) -> Flow {
        let py = future.py();
        let due = future.get().inner.with(py, |inner| inner.callbacks.pop_front());
        let (Some(Callback::Notify(notify)), Some(loop_ref)) = (due, future.get().loop_ref(py)) else {
            return Flow::Continue;
        };
        let Some(core) = loop_ref.ours() else { return Flow::Continue };
        let loop_object = loop_ref.bind(py);
        core.current().clear(loop_object);
        let name = notify.way.name;
        let run = || match notify.call(future.as_any()) {
            Ok(()) => Flow::Continue,
            Err(error) => failed(loop_object, name, error),
        };
        if core.debug.get(py) { watched(core, future.as_any(), run) } else { run() }
    }
}

#[cold]
fn failed(loop_object: &Bound<'_, PyAny>, name: &str, error: PyErr) -> Flow {
    let py = loop_object.py();
    let error = settled(py, error);
    if asyncio::leaves_the_loop(py, &error) {
        return leave(error);
    }
    let message = PyString::new(py, &format!("Exception in callback {name}()")).into_any();
    let exception = raised(py, error).into_any();
    report(loop_object, &[("message", message), ("exception", exception)])
}

/// A notification as a callback: what a future of another make is given, and what shows among a future's callbacks.
#[pyclass(frozen, module = "ferrio._ferrio")]
pub(crate) struct Notification(GilCell<Option<Notify>>);

impl Notification {
    /// A callback that equals those of `owner`, to remove them by.
    pub(crate) fn like<'py>(owner: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let way = const { &Way { function: |_, _| Ok(()), name: "Notification" } };
        let notify = Notify { owner: owner.clone().unbind(), way, awaiter: None };
        notify.into_callable(owner.py())
    }

    fn owner(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.0.with(py, |notify| notify.as_ref().map(|notify| notify.owner.clone_ref(py)))
    }
}

#[pymethods]
impl Notification {
    fn __call__(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = future.py();
        let Some(notify) = self.0.with(py, |notify| notify.as_ref().map(|notify| notify.clone_ref(py))) else {
            return Ok(());
        };
        if let Some(awaiter) = notify.awaiter() {
            awaited_by::discard(future, awaiter.bind(py))?;
        }
        notify.call(future)
    }

    fn __eq__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> bool {
        let py = slf.py();
        other.cast::<Self>().is_ok_and(|other| match (slf.get().owner(py), other.get().owner(py)) {
            (Some(own), Some(other)) => own.is(&other),
            _ => slf.is(other),
        })
    }

    fn __hash__(&self, py: Python<'_>) -> usize {
        self.owner(py).map_or(0, |owner| owner.as_ptr() as usize >> 4)
    }

    #[getter]
    fn __self__(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.owner(py)
    }

    #[getter]
    fn __qualname__(&self, py: Python<'_>) -> &'static str {
        self.0.with(py, |notify| notify.as_ref().map_or("Notification", |notify| notify.way.name))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit, |notify, visit| notify.as_ref().map_or(Ok(()), |notify| notify.traverse(visit)))
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(slf.get().0.take(slf.py()));
    }
}
