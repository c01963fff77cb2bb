//! `FlowControlMixin`: who waits while writing is paused.

use pyo3::PyTraverseError;
use pyo3::call::PyCallArgs;
use pyo3::exceptions::{PyAssertionError, PyConnectionResetError, PyNotImplementedError};
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PySuper, PyTuple};

use crate::asyncio;
use crate::classes::stands_for;
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::async_function::AsyncFunction;
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::method::CallArguments;
use crate::ffi::{newborn, pool};
use crate::futures::Future;
use crate::locks::waiters::{Waiters, fail, wake};
use crate::loop_ref::LoopRef;

/// A protocol's flow control: who drains waits from pause_writing() to resume_writing().
#[pyclass(frozen, subclass, dict, weakref, module = "ferrio")]
pub(crate) struct FlowControlMixin {
    loop_ref: GilCell<Option<LoopRef>>,
    paused: GilCopy<bool>,
    connection_lost: GilCopy<bool>,
    waiters: Waiters,
    /// Whether `_drain_helper` is not overridden.
    plain: GilCopy<bool>,
}

impl FlowControlMixin {
    /// The part of an object of one of our classes; without a loop, of one that `__init__` has not seen yet.
    pub(crate) fn new(loop_ref: Option<LoopRef>) -> Self {
        Self {
            plain: GilCopy::new(loop_ref.is_some()),
            loop_ref: GilCell::new(loop_ref),
            paused: GilCopy::new(false),
            connection_lost: GilCopy::new(false),
            waiters: Waiters::default(),
        }
    }

    /// `__init__`.
    pub(crate) fn initialize(this: &Bound<'_, Self>, loop_object: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let (py, flow) = (this.py(), this.get());
        let loop_ref = loop_or_current(py, loop_object)?;
        drop(flow.loop_ref.replace(py, Some(loop_ref)));
        flow.paused.set(py, false);
        flow.connection_lost.set(py, false);
        flow.waiters.clear(py);
        let name = intern!(py, "_drain_helper");
        flow.plain.set(py, this.get_type().getattr(name)?.is(&py.get_type::<Self>().getattr(name)?));
        Ok(())
    }

    /// Whether `_drain_helper` is not overridden.
    #[inline]
    pub(super) fn is_plain(&self, py: Python<'_>) -> bool {
        self.plain.get(py)
    }

    /// # Errors
    ///
    /// `AttributeError` if a subclass has not called `__init__`.
    pub(crate) fn loop_ref(&self, py: Python<'_>) -> PyResult<LoopRef> {
        bound_loop(py, &self.loop_ref)
    }

    /// A future of the protocol's loop.
    pub(crate) fn future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Future>> {
        pool::make(py, Future::new(py, self.loop_ref(py)?)?)
    }

    /// `connection_lost`: who waits waits no longer.
    pub(crate) fn lose(&self, exc: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = exc.py();
        self.connection_lost.set(py, true);
        if !self.paused.get(py) {
            return Ok(());
        }
        self.for_each_waiter(py, |waiter| match exc.is_none() {
            true => wake(waiter, py.None().into_bound(py)).map(drop),
            false => fail(waiter, exc.clone()),
        })
    }

    fn for_each_waiter(&self, py: Python<'_>, f: impl Fn(&Bound<'_, PyAny>) -> PyResult<()>) -> PyResult<()> {
        self.waiters.all(py)?.iter().try_for_each(f)
    }

    /// What `asyncio.Protocol` does for a mixin, which is nothing, unless a class behind this one has the method: there
    /// asyncio's base would come last.
    fn inherited<'py>(
        this: &Bound<'py, Self>,
        method: &str,
        arguments: impl PyCallArgs<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        match PySuper::new(&py.get_type::<Self>(), this.as_any())?.getattr_opt(method)? {
            Some(method) => method.call1(arguments),
            None => Ok(py.None().into_bound(py)),
        }
    }

    fn log(this: &Bound<'_, Self>, message: &str) -> PyResult<()> {
        let py = this.py();
        if this.get().loop_ref(py)?.debug(py)? {
            asyncio::logger(py)?.call_method1(intern!(py, "debug"), (message, this))?;
        }
        Ok(())
    }
}

/// The loop that was given, or the current one.
pub(super) fn loop_or_current(py: Python<'_>, loop_object: Option<&Bound<'_, PyAny>>) -> PyResult<LoopRef> {
    match loop_object {
        Some(loop_object) => Ok(LoopRef::new(loop_object)),
        None => Ok(LoopRef::new(&asyncio::get_event_loop(py)?.call0()?)),
    }
}

/// The loop in a cell.
///
/// # Errors
///
/// `AttributeError` if there is none: a subclass has not called `__init__`.
#[inline]
pub(super) fn bound_loop(py: Python<'_>, cell: &GilCell<Option<LoopRef>>) -> PyResult<LoopRef> {
    let bound = cell.with(py, |bound| bound.as_ref().map(|bound| bound.clone_ref(py)));
    bound.ok_or_else(|| pyo3::exceptions::PyAttributeError::new_err("no attribute '_loop': __init__() was not called"))
}

#[pymethods]
impl FlowControlMixin {
    #[new]
    #[pyo3(signature = (*args, **_kwargs), text_signature = "(loop=None)")]
    fn __new__(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        newborn::has_dict(args.py());
        Self::new(None)
    }

    #[pyo3(signature = (r#loop=None))]
    fn __init__(slf: &Bound<'_, Self>, r#loop: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        Self::initialize(slf, r#loop)
    }

    /// Called by the transport when the connection is made.
    fn connection_made<'py>(slf: &Bound<'py, Self>, transport: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Self::inherited(slf, "connection_made", (transport,))
    }

    /// Called by the transport with what was received.
    fn data_received<'py>(slf: &Bound<'py, Self>, data: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Self::inherited(slf, "data_received", (data,))
    }

    /// Called by the transport when the peer has ended its side.
    fn eof_received<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::inherited(slf, "eof_received", ())
    }

    /// Called by the transport when its buffer is full.
    fn pause_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().paused.replace(slf.py(), true) {
            return Err(PyAssertionError::new_err(()));
        }
        Self::log(slf, "%r pauses writing")
    }

    /// Called by the transport when its buffer has room again: who drains goes on.
    fn resume_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, flow) = (slf.py(), slf.get());
        if !flow.paused.replace(py, false) {
            return Err(PyAssertionError::new_err(()));
        }
        Self::log(slf, "%r resumes writing")?;
        flow.for_each_waiter(py, |waiter| wake(waiter, py.None().into_bound(py)).map(drop))
    }

    /// Called by the transport when the connection is lost: who drains goes on, or gets the exception.
    fn connection_lost(&self, exc: Bound<'_, PyAny>) -> PyResult<()> {
        self.lose(&exc)
    }

    fn _get_close_waiter(&self, _stream: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyNotImplementedError::new_err(()))
    }

    #[getter(_loop)]
    fn get_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.loop_ref.with(py, |bound| bound.as_ref().map(|bound| bound.bind(py).clone()))
    }

    #[setter(_loop)]
    fn set_loop(&self, value: &Bound<'_, PyAny>) {
        drop(self.loop_ref.replace(value.py(), Some(LoopRef::new(value))));
    }

    #[getter(_paused)]
    fn get_paused(&self, py: Python<'_>) -> bool {
        self.paused.get(py)
    }

    #[setter(_paused)]
    fn set_paused(&self, py: Python<'_>, value: bool) {
        self.paused.set(py, value);
    }

    #[getter(_connection_lost)]
    fn get_connection_lost(&self, py: Python<'_>) -> bool {
        self.connection_lost.get(py)
    }

    #[setter(_connection_lost)]
    fn set_connection_lost(&self, py: Python<'_>, value: bool) {
        self.connection_lost.set(py, value);
    }

    #[getter]
    fn _drain_waiters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.waiters.to_deque(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.loop_ref.traverse(visit, |bound, visit| bound.iter().try_for_each(|bound| bound.traverse(visit)))?;
        self.waiters.traverse(visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        slf.get().waiters.clear(slf.py());
        drop(slf.get().loop_ref.take(slf.py()));
    }
}

stands_for!(FlowControlMixin, flow_control_class);

/// Waiting until writing is not paused, by itself or as a part of another frame.
pub(super) struct Drain {
    flow: Py<FlowControlMixin>,
    waiter: Option<Py<Future>>,
}

impl Drain {
    /// Waiting for `flow`; `None` if there is nothing to wait for.
    ///
    /// # Errors
    ///
    /// `ConnectionResetError` if the connection is lost.
    #[inline]
    pub(super) fn begin(flow: &Bound<'_, FlowControlMixin>) -> PyResult<Option<Self>> {
        let py = flow.py();
        if flow.get().connection_lost.get(py) {
            return Err(PyConnectionResetError::new_err("Connection lost"));
        }
        Ok(flow.get().paused.get(py).then(|| Self { flow: flow.clone().unbind(), waiter: None }))
    }
}

impl Frame for Drain {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let flow = self.flow.get();
        match self.waiter.take() {
            None => {
                let waiter = flow.future(py)?;
                flow.waiters.push(&waiter)?;
                self.waiter = Some(waiter.clone().unbind());
                Ok(Next::Await(waiter.into_any()))
            }
            Some(waiter) => {
                flow.waiters.remove(&waiter.into_bound(py))?;
                outcome?;
                Ok(Next::Return(py.None().into_bound(py)))
            }
        }
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.flow)?;
        visit.call(&self.waiter)
    }
}

/// `FlowControlMixin._drain_helper`.
pub(super) struct Drained;

enum DrainHelper {
    Begins(Py<FlowControlMixin>),
    Waits(Drain),
}

impl Frame for DrainHelper {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        if let Self::Begins(flow) = self {
            match Drain::begin(flow.bind(py))? {
                Some(drain) => *self = Self::Waits(drain),
                None => return Ok(Next::Return(py.None().into_bound(py))),
            }
        }
        match self {
            Self::Waits(drain) => drain.step(py, outcome),
            Self::Begins(_) => Ok(Next::Return(py.None().into_bound(py))),
        }
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Begins(flow) => visit.call(flow),
            Self::Waits(drain) => drain.traverse(visit),
        }
    }
}

impl AsyncFunction for Drained {
    const NAME: &'static str = "FlowControlMixin._drain_helper";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Waits until writing is not paused.";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (flow, _) = arguments.method::<FlowControlMixin, 1>(Self::NAME, ["self"])?;
        Coroutine::of(py, Self::NAME, DrainHelper::Begins(flow.to_owned().unbind()))
    }
}
