//! The tasks that are not done.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::task::Waker;

use slab::Slab;

use crate::engine::EventLoop;

/// The wakers of one loop's tasks, for the one moment when all of them are needed: when the loop closes.
#[derive(Debug, Default)]
pub(crate) struct Registry(RefCell<Slab<Option<Waker>>>);

impl Registry {
    /// Makes room for a task of `event_loop`, whose registry this is. The waker follows when there is one.
    pub(super) fn reserve(&self, event_loop: &Rc<EventLoop>) -> Registration {
        Registration { key: self.0.borrow_mut().insert(None), event_loop: Rc::downgrade(event_loop) }
    }

    pub(super) fn set(&self, key: usize, waker: Waker) {
        if let Some(slot) = self.0.borrow_mut().get_mut(key) {
            *slot = Some(waker);
        }
    }

    /// Wakes every task, so that each is queued, and forgets them.
    pub(in crate::engine) fn wake_all(&self) {
        let wakers = self.0.take();
        for (_, waker) in wakers {
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

/// A task's place in the registry, given up with its future.
#[derive(Debug)]
pub(super) struct Registration {
    key: usize,
    /// Weak, because the future is reached from the loop.
    event_loop: Weak<EventLoop>,
}

impl Registration {
    pub(super) fn key(&self) -> usize {
        self.key
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // After the loop has closed its registry is empty, except for what is spawned on it now: that has no waker, and
        // goes before anybody could notice that it has lost its place.
        let Some(event_loop) = self.event_loop.upgrade() else { return };
        let waker = event_loop.tasks().0.borrow_mut().try_remove(self.key);
        // Outside the borrow: it may hold the last reference to the task.
        drop(waker);
    }
}
