//! The watched descriptors of a loop, and who is told when one is ready.
//!
//! A descriptor that is watched has an [`Entry`], and each of its two sides at most one [`Watch`], which is what the
//! engine queues when that side becomes ready. A watch serves two kinds of customers that know nothing of each other:
//!
//! | customer | comes by | is told | goes |
//! |---|---|---|---|
//! | one handle | `add_reader`, `add_writer` | in every turn that finds the side ready | when it is removed, replaced or cancelled |
//! | any number of waiters | [`begin_wait`](EventLoop::begin_wait) | once: all of them, and they try again | when told, or when their coroutine gives up |
//!
//! asyncio has one place for both, so that a second `sock_recv`, or an `add_reader`, on a descriptor where a
//! `sock_recv` waits leaves the first one waiting for ever. Here all are served.
//!
//! A turn may have queued a watch whose handle is taken away by what runs before it. Handles are therefore never
//! exchanged inside a watch: a new handle comes with a new watch, and the queued one finds itself empty. Waiters may be
//! told once too often, they only try again.
//!
//! # Between two waits
//!
//! Who waits for a socket mostly does so again. So a watch for waiters is told of changes only, and stays when they
//! have been told: the next wait for the same `socket` object makes no system call. It goes when something comes and
//! nobody waits, when a wait is cancelled, when another wants the descriptor, or with the `socket` object. That it is
//! the same object, which still has the same number, is taken for it being the same descriptor; for any other the
//! kernel is asked. So who puts another descriptor under the number of a socket that lives, by `dup2`, must not wait
//! for that socket any more.
//!
//! A socket that is closed while something waits for it leaves it waiting, as asyncio does: the kernel forgets the
//! watch without a word, and nobody is told but who cancels.
//!
//! Descriptor numbers change owners. That an old registration does not reach, or take away, that of the next owner is
//! the reactor's care; here it only matters that a number which is watched again is made known to the kernel again,
//! which `Reactor::watch` does.

use std::io;
use std::os::fd::RawFd;

use ferrio::engine::{Direction, Flow, Reactor, Runnable, SourceKey};
use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use smallvec::SmallVec;

use super::EventLoop;
use super::weak_loop::WeakLoop;
use crate::ffi::cell::GilCell;
use crate::ffi::runnable::{Job, runnable};
use crate::futures::Future;
use crate::handles::{Handle, RunHandle};
use crate::os_error::os_error;

/// The watched descriptors of a loop.
#[derive(Default)]
pub(super) struct Watched {
    /// By their numbers, which are small and dense.
    entries: Vec<Option<Entry>>,
    pub(super) next_waiter: u32,
}

pub(super) struct Entry {
    pub(super) key: SourceKey,
    /// What `add_reader` was given instead of a number: kept alive, and known by identity once it is closed.
    pub(super) object: Option<Py<PyAny>>,
    read: Option<Py<Watch>>,
    write: Option<Py<Watch>>,
}

impl Entry {
    pub(super) fn side(&mut self, direction: Direction) -> &mut Option<Py<Watch>> {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }
}

/// What a change has left over: dropped by the caller, outside of every borrow.
#[derive(Default)]
#[must_use]
pub(super) struct Left {
    pub(super) handle: Option<Py<Handle>>,
    _watches: (Option<Py<Watch>>, Option<Py<Watch>>),
    _queued: (Option<Runnable>, Option<Runnable>),
    _object: Option<Py<PyAny>>,
    _waiters: Waiters,
}

/// One side of a descriptor, in the engine.
#[pyclass(frozen, freelist = 256, module = "ferrio._ferrio")]
pub(super) struct Watch {
    /// Weak: a watch that was left in place is no reason to keep the loop.
    event_loop: WeakLoop,
    fd: RawFd,
    direction: Direction,
    /// The socket that the descriptor is of, if it is to be left in place between two waits.
    pub(super) socket: Option<Py<PyWeakrefReference>>,
    pub(super) customers: GilCell<Customers>,
}

pub(super) type Waiters = SmallVec<[Waiter; 1]>;

#[derive(Default)]
pub(super) struct Customers {
    pub(super) handle: Option<Py<Handle>>,
    pub(super) waiters: Waiters,
}

pub(super) struct Waiter {
    pub(super) number: u32,
    pub(super) future: Py<Future>,
}

impl Watch {
    /// Whether the descriptor is that of `socket`.
    pub(super) fn is_of(&self, socket: &Bound<'_, PyAny>) -> bool {
        let own = self.socket.as_ref().and_then(|own| own.bind(socket.py()).upgrade());
        own.is_some_and(|own| own.is(socket))
    }
}

/// Called by the interpreter when a socket is gone for which a watch may have been left in place.
///
/// Else the loop would take that descriptor for watched, and ask the kernel in every turn.
#[pyclass(frozen, module = "ferrio._ferrio")]
struct SocketGone {
    event_loop: WeakLoop,
    fd: RawFd,
    direction: Direction,
}

#[pymethods]
impl SocketGone {
    fn __call__(&self, reference: &Bound<'_, PyAny>) {
        let py = reference.py();
        let Ok(event_loop) = self.event_loop.get(py) else { return };
        let watch = event_loop.get().watched.with(py, |all| {
            let watch = all.entry(self.fd)?.side(self.direction).as_ref()?;
            let is_its = watch.get().socket.as_ref().is_some_and(|own| own.is(reference));
            is_its.then(|| watch.clone_ref(py))
        });
        if let Some(watch) = watch {
            drop(EventLoop::forget_watch(&event_loop, watch.bind(py)));
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.event_loop.traverse(visit)
    }
}

impl Customers {
    fn is_empty(&self) -> bool {
        self.handle.is_none() && self.waiters.is_empty()
    }
}

#[pymethods]
impl Watch {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.event_loop.traverse(visit)?;
        visit.call(&self.socket)?;
        self.customers.traverse(visit, |customers, visit| {
            visit.call(&customers.handle)?;
            customers.waiters.iter().try_for_each(|waiter| visit.call(&waiter.future))
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(slf.get().customers.take(slf.py()));
    }
}

/// A watch whose side is ready.
struct RunWatch;

impl Job for RunWatch {
    type Class = Watch;

    fn run(this: &Bound<'_, Watch>) -> Flow {
        let py = this.py();
        let watch = this.get();
        let (handle, waiters, is_over) = watch.customers.with(py, |customers| {
            let was_left = customers.is_empty();
            let handle = customers.handle.as_ref().map(|handle| handle.clone_ref(py));
            // A handle that was cancelled rather than removed leaves at this chance, as asyncio's do. It is dropped
            // below at the earliest: `handle` is the same.
            customers.handle.take_if(|handle| handle.get().is_cancelled(py));
            let waiters = std::mem::take(&mut customers.waiters);
            (handle, waiters, customers.is_empty() && (was_left || watch.socket.is_none()))
        });
        // Before anybody is told, so that who closes the descriptor at once closes one that is not watched.
        if is_over && let Ok(event_loop) = watch.event_loop.get(py) {
            drop(EventLoop::forget_watch(&event_loop, this));
        }
        for waiter in &waiters {
            let future = waiter.future.bind(py);
            if future.get().is_pending(py)
                && let Err(error) = Future::resolve(future, py.None().into_bound(py))
            {
                error.write_unraisable(py, Some(future));
            }
        }
        match handle {
            Some(handle) => RunHandle::run(handle.bind(py)),
            None => Flow::Continue,
        }
    }
}

impl Watched {
    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.entries.iter().flatten().try_for_each(|entry| {
            visit.call(&entry.object)?;
            visit.call(&entry.read)?;
            visit.call(&entry.write)
        })
    }

    pub(super) fn entry(&mut self, fd: RawFd) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(fd).ok()?)?.as_mut()
    }

    fn take(&mut self, fd: RawFd) -> Option<Entry> {
        self.entries.get_mut(usize::try_from(fd).ok()?)?.take()
    }

    pub(super) fn customers<R>(
        &mut self,
        py: Python<'_>,
        fd: RawFd,
        direction: Direction,
        f: impl FnOnce(&mut Customers) -> R,
    ) -> Option<R> {
        let watch = self.entry(fd)?.side(direction).as_ref()?;
        Some(watch.get().customers.with(py, f))
    }

    /// Puts `watch` on its side, with the waiters of the watch that it replaces.
    fn set(&mut self, py: Python<'_>, reactor: &Reactor, watch: &Py<Watch>) -> io::Result<Left> {
        let (fd, direction) = (watch.get().fd, watch.get().direction);
        let place = usize::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
        let key = self.entry(fd).map_or_else(|| reactor.insert(fd), |entry| entry.key);
        let work = runnable::<RunWatch>(watch.clone_ref(py));
        let queued = match watch.get().customers.with(py, |customers| customers.handle.is_some()) {
            true => reactor.watch(key, direction, work),
            false => reactor.watch_edge(key, direction, work),
        };
        let queued = match queued {
            Ok(queued) => queued,
            Err(error) => {
                if self.entry(fd).is_none_or(|entry| entry.read.is_none() && entry.write.is_none()) {
                    // Nothing is in it: what is dropped here is two times nothing.
                    reactor.remove(key);
                    self.take(fd);
                }
                return Err(error);
            }
        };
        // Not before the kernel has taken it: the number of a descriptor that is not open can be any.
        if self.entries.len() <= place {
            self.entries.resize_with(place + 1, || None);
        }
        let entry = self.entries[place].get_or_insert_with(|| Entry { key, object: None, read: None, write: None });
        let previous = entry.side(direction).replace(watch.clone_ref(py)).filter(|previous| !previous.is(watch));
        let mut left = Left { _queued: (queued, None), ..Left::default() };
        if let Some(previous) = previous {
            let before = previous.get().customers.with(py, std::mem::take);
            watch.get().customers.with(py, |customers| customers.waiters.extend(before.waiters));
            left.handle = before.handle;
            left._watches.0 = Some(previous);
        }
        Ok(left)
    }

    /// Ends the watch of one side, if that side has one without customers.
    pub(super) fn tidy(&mut self, py: Python<'_>, reactor: &Reactor, fd: RawFd, direction: Direction) -> Left {
        if self.customers(py, fd, direction, |customers| customers.is_empty()) != Some(true) {
            return Left::default();
        }
        let Some(entry) = self.entry(fd) else { return Left::default() };
        let mut left = Left { _watches: (entry.side(direction).take(), None), ..Left::default() };
        if entry.read.is_none() && entry.write.is_none() {
            left._queued = reactor.remove(entry.key);
            left._object = self.take(fd).and_then(|entry| entry.object);
        } else {
            left._queued.0 = reactor.unwatch(entry.key, direction);
        }
        left
    }

    /// The number under which `object` was watched before it was closed.
    pub(super) fn find(&self, object: &Bound<'_, PyAny>) -> Option<RawFd> {
        let is_it = |entry: &Entry| entry.object.as_ref().is_some_and(|own| own.is(object));
        let place = self.entries.iter().position(|entry| entry.as_ref().is_some_and(is_it))?;
        RawFd::try_from(place).ok()
    }
}

impl EventLoop {
    pub(super) fn new_watch(
        slf: &Bound<'_, Self>,
        fd: RawFd,
        direction: Direction,
        socket: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Watch>> {
        let event_loop = WeakLoop::new(slf)?;
        let socket = match socket {
            Some(socket) => {
                let gone = SocketGone { event_loop: WeakLoop::new(slf)?, fd, direction };
                // What cannot be referred to weakly is as good as another one every time.
                PyWeakrefReference::new_with(socket, Py::new(slf.py(), gone)?).ok().map(Bound::unbind)
            }
            None => None,
        };
        Py::new(slf.py(), Watch { event_loop, fd, direction, socket, customers: GilCell::default() })
    }

    /// Puts `watch` on its side, with the waiters of the watch that it replaces.
    pub(super) fn set_watch(slf: &Bound<'_, Self>, watch: &Py<Watch>) -> PyResult<Left> {
        let py = slf.py();
        let core = slf.as_super().get();
        // Asked again: making the watch may have run the collector, and with it anything.
        core.check_open(py)?;
        let reactor = core.engine(py).reactor();
        slf.get().watched.with(py, |all| all.set(py, reactor, watch)).map_err(|error| os_error(py, &error))
    }

    /// Ends a watch that has lost its customers, unless another has taken its side.
    fn forget_watch(slf: &Bound<'_, Self>, watch: &Bound<'_, Watch>) -> Left {
        let py = slf.py();
        let (fd, direction) = (watch.get().fd, watch.get().direction);
        let reactor = slf.as_super().get().engine(py).reactor();
        slf.get().watched.with(py, |all| {
            let own = all.entry(fd).and_then(|entry| entry.side(direction).as_ref());
            if own.is_some_and(|own| own.is(watch)) { all.tidy(py, reactor, fd, direction) } else { Left::default() }
        })
    }
}
