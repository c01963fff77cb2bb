//! Waiting for a descriptor to become ready, in a coroutine.
//!
//! Who has waited tries again: it may have been told for nothing. What it waits with, and for how long the kernel
//! watches, is [`watched`](super::watched)'s.

use std::os::fd::RawFd;

use ferrio::engine::Direction;
use pyo3::prelude::*;

use super::EventLoop;
use super::watched::{Customers, Waiter};
use super::weak_loop::WeakLoop;
use crate::coroutine::await_;
use crate::ffi::pool;
use crate::futures::Future;

impl EventLoop {
    fn add_waiter(
        slf: &Bound<'_, Self>,
        fd: RawFd,
        direction: Direction,
        socket: Option<&Bound<'_, PyAny>>,
        future: &Bound<'_, Future>,
    ) -> PyResult<u32> {
        let py = slf.py();
        let reactor = slf.as_super().get().engine(py).reactor();
        let (number, present, is_left) = slf.get().watched.with(py, |all| {
            all.next_waiter = all.next_waiter.wrapping_add(1);
            let number = all.next_waiter;
            let Some(entry) = all.entry(fd) else { return (number, None, false) };
            let key = entry.key;
            let Some(watch) = entry.side(direction).as_ref() else { return (number, None, false) };
            let is_left = socket.is_some_and(|socket| watch.get().is_of(socket)) && reactor.is_armed(key, direction);
            (number, Some(watch.clone_ref(py)), is_left)
        });
        let waiter = Waiter { number, future: future.clone().unbind() };
        let watch = match present {
            Some(watch) if is_left => {
                watch.get().customers.with(py, |customers| customers.waiters.push(waiter));
                return Ok(number);
            }
            // One of another socket, which had the number before: its waiters try again, and find that out.
            Some(watch) if socket.is_none() || watch.get().socket.is_none() => watch,
            _ => Self::new_watch(slf, fd, direction, socket)?,
        };
        watch.get().customers.with(py, |customers| customers.waiters.push(waiter));
        match Self::set_watch(slf, &watch) {
            Ok(left) => drop(left),
            Err(error) => {
                let waiters = watch.get().customers.with(py, |customers| take_waiter(customers, number));
                drop(waiters);
                return Err(error);
            }
        }
        Ok(number)
    }

    pub(super) fn remove_waiter(slf: &Bound<'_, Self>, fd: RawFd, direction: Direction, number: u32) {
        let py = slf.py();
        let reactor = slf.as_super().get().engine(py).reactor();
        let (waiter, left) = slf.get().watched.with(py, |all| {
            let waiter = all.customers(py, fd, direction, |customers| take_waiter(customers, number)).flatten();
            (waiter, all.tidy(py, reactor, fd, direction))
        });
        drop((waiter, left));
    }

    /// A future that is told when `fd` is ready, and its number; when it becomes ready, if `socket` is given, which is
    /// the one that `fd` is of, and not ready now. The watch is then left in place for the next wait.
    ///
    /// # Errors
    ///
    /// `RuntimeError` if a transport uses the descriptor or the loop is closed; what the kernel says to watching it.
    pub(super) fn begin_wait<'py>(
        slf: &Bound<'py, Self>,
        fd: RawFd,
        direction: Direction,
        socket: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, Future>, u32)> {
        let py = slf.py();
        slf.as_super().get().descriptors().check_free(py, fd)?;
        let future = pool::make(py, Future::new(py, Self::loop_ref(slf))?)?;
        let number = Self::add_waiter(slf, fd, direction, socket, &future)?;
        Ok((future, number))
    }
}

fn take_waiter(customers: &mut Customers, number: u32) -> Option<Waiter> {
    let position = customers.waiters.iter().position(|waiter| waiter.number == number)?;
    Some(customers.waiters.remove(position))
}

/// Waits until `fd` is ready in `direction`, or might be: to be followed by another attempt.
///
/// The watch is gone when this returns, and also when it is dropped or something is raised into it.
///
/// # Errors
///
/// `RuntimeError` if a transport uses the descriptor or the loop is closed; what the kernel says to watching it.
pub(super) async fn readiness(event_loop: &WeakLoop, fd: RawFd, direction: Direction) -> PyResult<()> {
    let (future, mut waiting) = Python::attach(|py| {
        let this = event_loop.get(py)?;
        let (future, number) = EventLoop::begin_wait(&this, fd, direction, None)?;
        PyResult::Ok((future.into_any().unbind(), Waiting { event_loop, fd, direction, number: Some(number) }))
    })?;
    await_(future).await?;
    // Told, and therefore no longer watching.
    waiting.number = None;
    Ok(())
}

/// A waiter, for as long as its coroutine waits.
struct Waiting<'a> {
    event_loop: &'a WeakLoop,
    fd: RawFd,
    direction: Direction,
    number: Option<u32>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        // None at the end of the interpreter, when no loop runs any more.
        _ = Python::try_attach(|py| {
            // A loop that is gone watches nothing.
            if let Ok(event_loop) = self.event_loop.get(py) {
                EventLoop::remove_waiter(&event_loop, self.fd, self.direction, number);
            }
        });
    }
}
