//! `Handle`: a callback that waits for its turn.

use ferrio::engine::Flow;
use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::debug::{Origin, callback_source, run_in_debug_mode};
use super::given::Given;
use super::sharing::{Running, Sharing};
use super::work::{Arguments, Work};
use crate::asyncio;
use crate::contexts::{self, LazyContext};
use crate::ffi::cell::{GilCell, GilCopy, GilOnce};
use crate::ffi::pool::{self, Pool, Pooled};
use crate::ffi::raise::{raised, settled};
use crate::ffi::refcount::is_only_reference;
use crate::ffi::runnable::{Job, leave};
use crate::ffi::snapshot::Snapshot;
use crate::ffi::thread::attached;
use crate::loop_ref::{LoopCore, LoopRef, report};

/// A callback that `call_soon` has queued, as `asyncio.Handle`.
#[pyclass(frozen, subclass, weakref, module = "ferrio")]
pub(crate) struct Handle {
    /// Empty until a subclass's `__init__` has called ours.
    pub(super) loop_ref: GilOnce<LoopRef>,
    pub(super) work: GilCell<Option<Work>>,
    pub(super) cancelled: GilCopy<bool>,
    pub(super) sharing: GilCopy<Sharing>,
    pub(super) origin: GilCell<Option<Box<Origin>>>,
}

impl Handle {
    /// Makes a handle. Runs Python code in debug mode only.
    pub(crate) fn new(
        py: Python<'_>,
        loop_ref: LoopRef,
        callback: Py<PyAny>,
        arguments: Arguments,
        context: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let context = LazyContext::new(py, context)?;
        let origin = if loop_ref.debug(py)? { Some(Box::new(Origin::here(py)?)) } else { None };
        Ok(Self {
            loop_ref: GilOnce::new(loop_ref),
            work: GilCell::new(Some(Work { callback, arguments, context })),
            cancelled: GilCopy::new(false),
            sharing: GilCopy::new(Sharing::Not),
            origin: GilCell::new(origin),
        })
    }

    pub(super) fn of(py: Python<'_>, given: Given<'_>) -> PyResult<Self> {
        let Given { callback, arguments, loop_object, context, .. } = given;
        Self::new(py, LoopRef::new(&loop_object), callback.unbind(), arguments, context.map(Bound::unbind))
    }

    /// A subclass's handle, before its `__init__`.
    pub(super) fn unmade() -> Self {
        Self {
            loop_ref: GilOnce::empty(),
            work: GilCell::new(None),
            cancelled: GilCopy::new(false),
            sharing: GilCopy::new(Sharing::Not),
            origin: GilCell::new(None),
        }
    }

    /// The loop.
    ///
    /// # Errors
    ///
    /// `AttributeError` if a subclass's `__init__` has not called ours.
    #[inline]
    pub(super) fn made(&self, py: Python<'_>) -> PyResult<&LoopRef> {
        self.loop_ref.get(py).ok_or_else(|| PyAttributeError::new_err("the handle's __init__() was not called"))
    }

    /// Takes what a subclass's `__init__` gives; again, if it is called again.
    ///
    /// # Errors
    ///
    /// `TypeError` if that is another loop than before.
    pub(super) fn initialize(&self, py: Python<'_>, given: Given<'_>) -> PyResult<()> {
        let loop_ref = LoopRef::new(&given.loop_object);
        let origin = if loop_ref.debug(py)? { Some(Box::new(Origin::here(py)?)) } else { None };
        let context = LazyContext::new(py, given.context.map(Bound::unbind))?;
        let work = Work { callback: given.callback.unbind(), arguments: given.arguments, context };
        if let Err(again) = self.loop_ref.set(py, loop_ref)
            && !again.is(py, self.made(py)?)
        {
            return Err(PyTypeError::new_err("a handle keeps its loop"));
        }
        self.cancelled.set(py, false);
        drop(self.origin.replace(py, origin));
        if let Some(previous) = self.work.with(py, |place| place.replace(work)) {
            previous.dispose(py);
        }
        Ok(())
    }

    pub(crate) fn is_cancelled(&self, py: Python<'_>) -> bool {
        self.cancelled.get(py)
    }

    /// Makes the handle of a loop of ours.
    ///
    /// Budget: memory from the pool, and references. The context is a share of one copy.
    #[inline]
    pub(crate) fn create<'py>(
        core: &Bound<'py, LoopCore>,
        callback: Py<PyAny>,
        arguments: Arguments,
        context: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        pool::make(core.py(), Self::ours(core, callback, arguments, context)?)
    }

    /// As [`create`](Self::create), for a callback that has been waiting for something with its context.
    #[inline]
    pub(crate) fn create_in<'py>(
        core: &Bound<'py, LoopCore>,
        callback: Py<PyAny>,
        arguments: Arguments,
        context: LazyContext,
    ) -> PyResult<Bound<'py, Self>> {
        pool::make(core.py(), Self::ours_in(core, callback, arguments, context)?)
    }

    #[inline(always)]
    pub(super) fn ours(
        core: &Bound<'_, LoopCore>,
        callback: Py<PyAny>,
        arguments: Arguments,
        context: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        Self::ours_in(core, callback, arguments, LazyContext::new(core.py(), context)?)
    }

    #[inline(always)]
    fn ours_in(
        core: &Bound<'_, LoopCore>,
        callback: Py<PyAny>,
        arguments: Arguments,
        context: LazyContext,
    ) -> PyResult<Self> {
        let py = core.py();
        let origin = if core.get().debug.get(py) { Some(Box::new(Origin::here(py)?)) } else { None };
        Ok(Self {
            loop_ref: GilOnce::new(LoopRef::Ours(core.clone().unbind())),
            work: GilCell::new(Some(Work { callback, arguments, context })),
            cancelled: GilCopy::new(false),
            sharing: GilCopy::new(Sharing::Not),
            origin: GilCell::new(origin),
        })
    }

    /// Calls the callback in its context, and reports what it raises. Runs Python code.
    #[inline]
    pub(super) fn run(this: &Bound<'_, Self>) -> Flow {
        if is_only_reference(this.as_any()) { Self::run_unseen(this) } else { Self::run_seen(this) }
    }

    /// Runs a handle that nobody has but the loop: what it holds need not be there meanwhile.
    #[inline]
    fn run_unseen(this: &Bound<'_, Self>) -> Flow {
        let py = this.py();
        let Some(mut work) = this.get().work.take(py) else { return Flow::Continue };
        let result = match &work.context {
            LazyContext::Known(context) => work.call_in(context.bind(py)),
            LazyContext::Copy(snapshot, ()) => match snapshot.context(py) {
                Ok(context) => match work.call_in(&context) {
                    Ok(value) => {
                        snapshot.give_back(context);
                        Ok(value)
                    }
                    Err(error) => {
                        // The exception handler is called in it.
                        std::mem::replace(&mut work.context, LazyContext::Known(context.unbind())).dispose(py);
                        Err(error)
                    }
                },
                Err(error) => Err(error),
            },
        };
        match result {
            Ok(_) => {
                work.dispose(py);
                Flow::Continue
            }
            Err(error) => Self::failed(this, work, error),
        }
    }

    /// Runs a handle that somebody has, who can ask it for all it holds, and cancel it in the middle.
    pub(super) fn run_seen(this: &Bound<'_, Self>) -> Flow {
        let py = this.py();
        let work = this.get().work.with(py, |work| work.as_ref().map(|work| work.clone_ref(py)));
        let Some(work) = work.filter(|_| !this.get().is_cancelled(py)) else { return Flow::Continue };
        let context = match &work.context {
            LazyContext::Known(context) => Ok(context.bind(py).clone()),
            LazyContext::Copy(snapshot, ()) => this.get().know_context(py, snapshot),
        };
        let running = Running::begin(this);
        let result = context.and_then(|context| work.call_in(&context));
        drop(running);
        match result {
            Ok(_) => {
                work.dispose(py);
                Flow::Continue
            }
            Err(error) => Self::failed(this, work, error),
        }
    }

    /// The handle's context, which is made of `snapshot` unless there is one by now.
    #[inline]
    pub(super) fn know_context<'py>(&self, py: Python<'py>, snapshot: &Snapshot) -> PyResult<Bound<'py, PyAny>> {
        contexts::make_known(py, snapshot, |made| {
            self.work.with(py, |work| work.as_mut().map(|work| work.context.know(made)))
        })
    }

    #[cold]
    fn failed(this: &Bound<'_, Self>, work: Work, error: PyErr) -> Flow {
        let py = this.py();
        let error = settled(py, error);
        if asyncio::leaves_the_loop(py, &error) {
            work.dispose(py);
            return leave(error);
        }
        let handle = this.get();
        let debug = handle.debug(py);
        let (callback, arguments) = (work.callback.clone_ref(py).into_bound(py), work.arguments.clone_ref(py));
        // It is shown to the exception handler, as it was.
        let unused = handle.work.with(py, |own| match own {
            None if !handle.cancelled.get(py) => own.replace(work),
            _ => Some(work),
        });
        if let Some(unused) = unused {
            unused.dispose(py);
        }
        let source = arguments.to_tuple(py).and_then(|arguments| callback_source(&callback, &arguments, debug));
        let source = source.unwrap_or_else(|_| "callback".to_owned());
        let mut entries = vec![
            ("message", PyString::new(py, &format!("Exception in callback {source}")).into_any()),
            ("exception", raised(py, error).into_any()),
            ("handle", this.clone().into_any()),
        ];
        if let Some(source_traceback) = handle.source_traceback(py) {
            entries.push(("source_traceback", source_traceback.into_bound(py)));
        }
        arguments.dispose(py);
        // One that has run has a loop.
        handle.loop_ref.get(py).map_or(Flow::Continue, |loop_ref| report(loop_ref.bind(py), &entries))
    }

    /// Whether the loop is in debug mode.
    fn debug(&self, py: Python<'_>) -> bool {
        self.loop_ref.get(py).is_some_and(|loop_ref| loop_ref.debug(py).unwrap_or(false))
    }

    pub(super) fn source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.origin.with(py, |origin| origin.as_ref().map(|origin| origin.source_traceback.clone_ref(py)))
    }

    /// Cancels the handle; false if it was cancelled before. What it held is dropped, which runs Python code.
    pub(super) fn cancel_once(this: &Bound<'_, PyAny>, handle: &Self) -> PyResult<bool> {
        let py = this.py();
        if handle.cancelled.replace(py, true) {
            return Ok(false);
        }
        if handle.origin.with(py, |origin| origin.is_some()) {
            // Taken now, because the callback and its arguments are about to go.
            let repr = this.repr()?.into_any().unbind();
            let previous = handle.origin.with(py, |origin| origin.as_mut().and_then(|o| o.repr.replace(repr)));
            drop(previous);
        }
        let work = match handle.loop_ref.get(py) {
            Some(LoopRef::Ours(_)) => handle.work.take(py),
            // A loop of another make may run something in the context of a handle that is cancelled, as
            // trio-asyncio does.
            _ => handle.work.with(py, |work| {
                let own = work.as_mut()?;
                let bare = Work { callback: py.None(), arguments: Arguments::None, context: own.context.clone_ref(py) };
                Some(std::mem::replace(own, bare))
            }),
        };
        if let Some(work) = work {
            work.dispose(py);
        }
        Ok(true)
    }

    /// `<Handle [cancelled] callback [created at]>`, with `when` behind the class or the word that it is cancelled.
    pub(super) fn describe(this: &Bound<'_, PyAny>, handle: &Self, when: Option<Bound<'_, PyAny>>) -> PyResult<String> {
        let py = this.py();
        if let Some(repr) = handle._repr(py) {
            return repr.extract(py);
        }
        let mut words = vec![this.get_type().name()?.to_string()];
        if handle.is_cancelled(py) {
            words.push("cancelled".to_owned());
        }
        if let Some(when) = when {
            words.push(format!("when={}", when.repr()?));
        }
        if let Some(callback) = handle._callback(py).filter(|callback| !callback.is_none(py)) {
            let arguments = handle._args(py)?.unwrap_or_else(|| PyTuple::empty(py));
            let debug = handle.debug(py);
            words.push(callback_source(callback.bind(py), &arguments, debug)?);
        }
        if let Some(source_traceback) = handle.source_traceback(py) {
            let frame = source_traceback.bind(py).get_item(-1)?;
            words.push(format!("created at {}:{}", frame.get_item(0)?, frame.get_item(1)?));
        }
        Ok(format!("<{}>", words.join(" ")))
    }
}

impl Pooled for Handle {
    type Base = ();

    fn pool() -> &'static Pool {
        static POOL: Pool = Pool::new();
        &POOL
    }

    fn dispose(self, py: Python<'_>) {
        if let Some(loop_ref) = self.loop_ref.into_inner() {
            loop_ref.dispose(py);
        }
        if let Some(work) = self.work.into_inner() {
            work.dispose(py);
        }
        if let Some(origin) = self.origin.into_inner() {
            attached(py, |_| drop(origin));
        }
    }
}

/// A handle in the ready queue.
pub(crate) struct RunHandle;

impl Job for RunHandle {
    type Class = Handle;

    fn run(this: &Bound<'_, Handle>) -> Flow {
        let py = this.py();
        let Some(loop_ref @ LoopRef::Ours(core)) = this.get().loop_ref.get(py) else { return Handle::run(this) };
        let core = core.get();
        core.current().clear(loop_ref.bind(py));
        if core.debug.get(py) { run_in_debug_mode(this, core) } else { Handle::run(this) }
    }
}
