//! A body written as an `async` block.
//!
//! There are no wakers: what the block awaits with [`await_`] is handed to the coroutine, and the block is polled again
//! when there is an outcome.
//!
//! A block must not keep what could refer back to its own task, other than through what it awaits: the collector does
//! not look inside.

use std::cell::RefCell;
use std::future::{Future as RustFuture, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use pyo3::PyTraverseError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

use super::{Coroutine, Frame, Next, Outcome};

/// What goes in and out of a block that is polled.
enum Exchange {
    /// Into the block: what came of what it awaited.
    Outcome(PyResult<Py<PyAny>>),
    /// Out of the block: what it awaits.
    Await(Py<PyAny>),
}

thread_local! {
    /// Filled right before a poll or right before it returns, and emptied by the other side before anything else runs,
    /// so that coroutines which resume each other do not meet here.
    static EXCHANGE: RefCell<Option<Exchange>> = const { RefCell::new(None) };
}

/// Awaits a Python object inside the body of a [`Coroutine`]: `await object`.
///
/// # Errors
///
/// What the object raises, or what is thrown into the coroutine meanwhile.
pub(crate) async fn await_(object: Py<PyAny>) -> PyResult<Py<PyAny>> {
    let mut object = Some(object);
    poll_fn(move |_| match object.take() {
        Some(object) => {
            EXCHANGE.set(Some(Exchange::Await(object)));
            Poll::Pending
        }
        None => Poll::Ready(match EXCHANGE.take() {
            Some(Exchange::Outcome(outcome)) => outcome,
            _ => Err(PyRuntimeError::new_err("a coroutine of ferrio was polled by something else")),
        }),
    })
    .await
}

struct Block<B> {
    block: Pin<Box<B>>,
    /// Whether it has been polled, and so awaits an outcome.
    begun: bool,
}

impl<B: RustFuture<Output = PyResult<Py<PyAny>>> + Send> Frame for Block<B> {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        if std::mem::replace(&mut self.begun, true) {
            EXCHANGE.set(Some(Exchange::Outcome(outcome.map(Bound::unbind))));
        }
        match self.block.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result.map(|value| Next::Return(value.into_bound(py))),
            Poll::Pending => match EXCHANGE.take() {
                Some(Exchange::Await(object)) => Ok(Next::Await(object.into_bound(py))),
                _ => Err(PyRuntimeError::new_err("a coroutine of ferrio waits for what is not Python's")),
            },
        }
    }

    fn traverse(&self, _visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        Ok(())
    }
}

impl Coroutine {
    /// A coroutine of the function `name` that runs `block` when it is driven.
    pub(crate) fn new<'py>(
        py: Python<'py>,
        name: &'static str,
        block: impl RustFuture<Output = PyResult<Py<PyAny>>> + Send + 'static,
    ) -> PyResult<Bound<'py, Self>> {
        let coroutine = Self::of(py, name, Block { block: Box::pin(block), begun: false })?;
        Ok(coroutine.cast_into::<Self>()?)
    }
}
