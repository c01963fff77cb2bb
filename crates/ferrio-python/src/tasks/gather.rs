//! `gather`.
//!
//! # Budget for each coroutine
//!
//! Its task, and an entry in the dictionary that finds duplicates. That it is done is told to the outer future
//! natively: one entry in the loop's ready queue, no callback object; the last one makes the list.

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use pyo3::{PyTraverseError, intern};

use super::any_future::{self, AnyFuture, Ending, current_task};
use super::ensure_future::ensure_future;
use super::task::Task;
use crate::asyncio;
use crate::convert::Truth;
use crate::ffi::cell::GilCell;
use crate::ffi::finalizer::Finalize;
use crate::ffi::pool::{Pool, Pooled};
use crate::futures::{Future, Notified};
use crate::loop_ref::LoopRef;

/// What `gather` returns, as asyncio's class of the same name: to cancel it is to cancel the children.
#[pyclass(frozen, extends = Future, module = "ferrio._ferrio", name = "_GatheringFuture")]
pub(crate) struct GatheringFuture(GilCell<Gathering>);

#[derive(Default)]
struct Gathering {
    /// In the order of the arguments, duplicates included.
    children: Vec<Py<PyAny>>,
    /// The task that called gather, as long as the call graph is to show it.
    awaiter: Option<Py<PyAny>>,
    /// How many different children there are.
    distinct: usize,
    finished: usize,
    return_exceptions: bool,
    cancel_requested: bool,
    /// gather has returned the future. If it failed half-way, what has begun ends with nobody to tell.
    complete: bool,
}

/// A future of the list of results of `coros_or_futures`, in their order; coroutines become tasks.
///
/// The first exception is raised at once, and the others go on; with `return_exceptions` exceptions are results. To
/// cancel the future is to cancel all that are not done. A child that is cancelled counts as raising CancelledError.
#[pyfunction]
#[pyo3(
    signature = (*coros_or_futures, return_exceptions=Truth(false)),
    text_signature = "(*coros_or_futures, return_exceptions=False)"
)]
pub(crate) fn gather<'py>(
    coros_or_futures: &Bound<'py, PyTuple>,
    return_exceptions: Truth,
) -> PyResult<Bound<'py, PyAny>> {
    gather_all(coros_or_futures, return_exceptions.0)
}

/// As [`gather`].
pub(crate) fn gather_all<'py>(
    coros_or_futures: &Bound<'py, PyTuple>,
    return_exceptions: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let py = coros_or_futures.py();
    if coros_or_futures.is_empty() {
        let loop_ref = LoopRef::new(&asyncio::get_event_loop(py)?.call0()?);
        let outer = Bound::new(py, Future::new(py, loop_ref)?)?;
        Future::resolve(&outer, PyList::empty(py).into_any())?;
        return Ok(outer.into_any());
    }
    let outer = GatheringFuture::new(py, return_exceptions)?;
    let already_done = GatheringFuture::begin(&outer, coros_or_futures)?;
    for child in already_done {
        ChildDone::notified(&outer, &child)?;
    }
    Ok(outer.into_any())
}

impl GatheringFuture {
    fn new(py: Python<'_>, return_exceptions: bool) -> PyResult<Bound<'_, Self>> {
        let own = Self(GilCell::new(Gathering { return_exceptions, ..Gathering::default() }));
        Bound::new(py, PyClassInitializer::from(Future::uninitialized()).add_subclass(own))
    }

    /// Makes a child of every argument, and returns those that are done already.
    fn begin<'py>(this: &Bound<'py, Self>, arguments: &Bound<'py, PyTuple>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let py = this.py();
        let running = asyncio::running_loop_or_none(py)?;
        let mut event_loop = (!running.is_none()).then_some(running);
        let awaiter = event_loop.as_ref().map_or(Ok(None), current_task)?;
        let known = PyDict::new(py);
        let mut already_done = Vec::new();
        let mut children = Vec::with_capacity(arguments.len());
        for argument in arguments.iter_borrowed() {
            if let Some(child) = known.get_item(argument)? {
                children.push(child.unbind());
                continue;
            }
            let child = ensure_future(&argument, event_loop.as_ref())?;
            if event_loop.is_none() {
                event_loop = Some(AnyFuture::of(&child).get_loop()?);
            }
            if !child.is(&*argument) {
                // Nobody else has it, so nobody could have looked after it.
                match child.cast_exact::<Task>() {
                    Ok(task) => task.get().log_destroy_pending.set(py, false),
                    Err(_) => child.setattr(intern!(py, "_log_destroy_pending"), false)?,
                }
            }
            known.set_item(argument, &child)?;
            let future = AnyFuture::of(&child);
            if future.is_done()? {
                already_done.push(child.clone());
            } else {
                future.notify::<ChildDone>(this, awaiter.as_ref())?;
            }
            children.push(child.unbind());
        }
        let Some(event_loop) = event_loop else { return Err(PyRuntimeError::new_err("no running event loop")) };
        this.as_super().get().initialize(py, LoopRef::new(&event_loop))?;
        let (distinct, awaiter) = (known.len(), awaiter.map(Bound::unbind));
        this.get().0.with(py, |own| {
            own.children = children;
            own.awaiter = awaiter;
            own.distinct = distinct;
            own.complete = true;
        });
        Ok(already_done)
    }

    fn children<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyAny>> {
        self.0.with(py, |own| own.children.iter().map(|child| child.clone_ref(py).into_bound(py)).collect())
    }

    /// Cancels every child that is not done; whether there was one.
    pub(super) fn cancel_children(this: &Bound<'_, Self>, message: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let py = this.py();
        if !this.as_super().get().is_pending(py) {
            return Ok(false);
        }
        let mut any = false;
        for child in this.get().children(py) {
            any |= any_future::cancel(&child, message)?;
        }
        if any {
            // Whatever becomes of the children, the outer future is cancelled with them.
            this.get().0.with(py, |own| own.cancel_requested = true);
        }
        Ok(any)
    }

    /// Ends with the first exception, while other children go on.
    fn fail(this: &Bound<'_, Self>, error: Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let awaiter = this.get().0.with(py, |own| own.awaiter.take());
        if let Some(awaiter) = awaiter {
            for child in this.get().children(py) {
                AnyFuture::of(&child).forget_awaiter(this.as_any(), awaiter.bind(py))?;
            }
        }
        Future::reject(this.as_super(), error)
    }

    /// Ends with all results.
    fn finish(this: &Bound<'_, Self>, cancel_requested: bool) -> PyResult<()> {
        let py = this.py();
        let children = this.get().children(py);
        let mut results = Vec::with_capacity(children.len());
        for child in &children {
            let child = AnyFuture::of(child);
            results.push(match child.ending()? {
                Ending::Raised(value) | Ending::Returned(value) => value,
                Ending::Cancelled => {
                    let message = child.cancel_message()?.unwrap_or_else(|| intern!(py, "").clone().into_any());
                    asyncio::cancelled_error::class(py)?.call1((message,))?
                }
            });
        }
        match children.last() {
            Some(last) if cancel_requested => Future::reject(this.as_super(), AnyFuture::of(last).cancelled_error()?),
            _ => Future::resolve(this.as_super(), PyList::new(py, results)?.into_any()),
        }
    }
}

/// A child of a gathering future is done.
struct ChildDone;

impl Notified for ChildDone {
    type Class = GatheringFuture;

    const NAME: &'static str = "gather.<locals>._done_callback";

    #[inline]
    fn notified(outer: &Bound<'_, GatheringFuture>, child: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = outer.py();
        let (last, return_exceptions, cancel_requested, complete) = outer.get().0.with(py, |own| {
            own.finished += 1;
            (own.finished == own.distinct, own.return_exceptions, own.cancel_requested, own.complete)
        });
        let child = AnyFuture::of(child);
        if !complete || !outer.as_super().get().is_pending(py) {
            // Nobody will ask, so the exception counts as fetched.
            return if child.is_cancelled()? { Ok(()) } else { child.exception().map(drop) };
        }
        if !return_exceptions {
            if child.is_cancelled()? {
                return GatheringFuture::fail(outer, child.cancelled_error()?);
            }
            if let Some(error) = child.exception()? {
                return GatheringFuture::fail(outer, error);
            }
        }
        if last { GatheringFuture::finish(outer, cancel_requested) } else { Ok(()) }
    }
}

#[pymethods]
impl GatheringFuture {
    /// Cancels every child that is not done, and returns whether there was one.
    #[pyo3(signature = (msg=None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        Self::cancel_children(slf, msg)
    }

    /// asyncio's class, so that `isinstance` says yes.
    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        asyncio::gathering_future_class(slf.py()).cloned()
    }

    #[getter]
    fn _children<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.children(py))
    }

    #[getter]
    fn _cancel_requested(&self, py: Python<'_>) -> bool {
        self.0.with(py, |own| own.cancel_requested)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit, |own, visit| {
            own.children.iter().try_for_each(|child| visit.call(child))?;
            visit.call(&own.awaiter)
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(slf.get().0.take(slf.py()));
    }
}

impl Finalize for GatheringFuture {
    fn finalize(object: &Bound<'_, Self>) {
        Future::finalize_future(object.as_super());
    }
}

impl Pooled for GatheringFuture {
    type Base = Future;

    fn pool() -> &'static Pool {
        static POOL: Pool = Pool::new();
        &POOL
    }

    fn is_last_word_due(object: &Bound<'_, Self>) -> bool {
        Future::is_last_word_due(object.as_super())
    }

    fn dispose(self, py: Python<'_>) {
        let Gathering { children, awaiter, .. } = self.0.into_inner();
        children.into_iter().for_each(|child| drop(child.into_bound(py)));
        drop(awaiter.map(|awaiter| awaiter.into_bound(py)));
    }
}
