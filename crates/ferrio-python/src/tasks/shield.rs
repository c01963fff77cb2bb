//! `shield`.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

use super::any_future::{AnyFuture, Ending, current_task};
use super::ensure_future::ensure_future;
use crate::ffi::cell::GilCell;
use crate::futures::{Callback, Future, Notified, Notify};
use crate::loop_ref::LoopRef;

/// A future of the result of `arg` that can be cancelled without cancelling `arg`; a coroutine becomes a task.
#[pyfunction]
pub(crate) fn shield<'py>(arg: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = arg.py();
    let inner = ensure_future(arg, None)?;
    let future = AnyFuture::of(&inner);
    if future.is_done()? {
        return Ok(inner);
    }
    let event_loop = future.get_loop()?;
    let outer = Bound::new(py, Future::new(py, LoopRef::new(&event_loop))?)?;
    let awaiter = current_task(&event_loop)?;
    future.notify::<InnerDone>(&outer, awaiter.as_ref())?;
    // A future of ours knows by itself on whose behalf it is waited for.
    let watched = match future {
        AnyFuture::Native(inner) => Notify::new::<OuterDone>(inner, None),
        AnyFuture::Foreign(inner) => {
            let shielded = Shielded(GilCell::new(Some((inner.clone().unbind(), awaiter.map(Bound::unbind)))));
            Notify::new::<ForeignOuterDone>(&Bound::new(py, shielded)?, None)
        }
    };
    Future::add_callback(&outer, Callback::Notify(watched))?;
    Ok(outer.into_any())
}

/// What is shielded has ended.
struct InnerDone;

impl Notified for InnerDone {
    type Class = Future;

    const NAME: &'static str = "shield.<locals>._inner_done_callback";

    fn notified(outer: &Bound<'_, Future>, inner: &Bound<'_, PyAny>) -> PyResult<()> {
        if AnyFuture::Native(outer).is_cancelled()? {
            return Ok(());
        }
        match AnyFuture::of(inner).ending()? {
            Ending::Cancelled => Future::cancel(outer, None).map(drop),
            Ending::Raised(error) => Future::reject(outer, error),
            Ending::Returned(value) => Future::resolve(outer, value),
        }
    }
}

/// The outer future is done: what is shielded need not tell it any more.
struct OuterDone;

impl Notified for OuterDone {
    type Class = Future;

    const NAME: &'static str = "shield.<locals>._outer_done_callback";

    fn notified(inner: &Bound<'_, Future>, outer: &Bound<'_, PyAny>) -> PyResult<()> {
        inner.get().forget(outer);
        Ok(())
    }
}

/// What is shielded, if it is a future of another make, and on whose behalf.
#[pyclass(frozen, module = "ferrio._ferrio")]
struct Shielded(GilCell<Option<InnerAndAwaiter>>);

type InnerAndAwaiter = (Py<PyAny>, Option<Py<PyAny>>);

#[pymethods]
impl Shielded {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit, |shielded, visit| match shielded {
            Some((inner, awaiter)) => {
                visit.call(inner)?;
                visit.call(awaiter)
            }
            None => Ok(()),
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(slf.get().0.take(slf.py()));
    }
}

/// As [`OuterDone`].
struct ForeignOuterDone;

impl Notified for ForeignOuterDone {
    type Class = Shielded;

    const NAME: &'static str = "shield.<locals>._outer_done_callback";

    fn notified(shielded: &Bound<'_, Shielded>, outer: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = outer.py();
        let Some((inner, awaiter)) = shielded.get().0.take(py) else { return Ok(()) };
        let inner = AnyFuture::Foreign(inner.bind(py));
        if inner.is_done()? {
            return Ok(());
        }
        inner.forget(outer, awaiter.as_ref().map(|awaiter| awaiter.bind(py)))
    }
}
