//! What other threads hand over, and how they wake the loop for it.
//!
//! The two sides meet in one flag. The loop raises `sleeping` before it may block and then looks at the queue once
//! more; a producer queues first and then takes the flag down. Whoever takes it down owes the one write that ends the
//! wait, so a burst of a thousand costs one system call, and none at all while the loop is awake. `tests/loom.rs` tries
//! every interleaving.

#[cfg(not(loom))]
use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

#[cfg(loom)]
use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
#[cfg(loom)]
use std::sync::PoisonError;

/// A queue from many threads to one that may be asleep.
#[derive(Debug)]
pub struct Inject<T> {
    queue: Mutex<Queue<T>>,
    /// How many wait in the queue: lets the loop pass by without the lock when there is nothing.
    len: AtomicUsize,
    /// The loop is blocked, or about to be.
    sleeping: AtomicBool,
}

#[derive(Debug)]
struct Queue<T> {
    items: Vec<T>,
    /// The loop is closed: nothing enters any more.
    closed: bool,
}

/// What a producer has to do after it queued something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Wake {
    /// The loop is awake and will see it.
    No,
    /// The loop sleeps and nobody has woken it yet.
    Yes,
}

impl<T> Default for Inject<T> {
    fn default() -> Self {
        Self {
            queue: Mutex::new(Queue { items: Vec::new(), closed: false }),
            len: AtomicUsize::new(0),
            sleeping: AtomicBool::new(false),
        }
    }
}

impl<T> Inject<T> {
    /// Queues `item`, from any thread.
    ///
    /// # Errors
    ///
    /// Gives the item back if the queue is closed.
    pub fn push(&self, item: T) -> Result<Wake, T> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(item);
        }
        queue.items.push(item);
        self.len.store(queue.items.len(), Ordering::Release);
        drop(queue);
        Ok(self.wake())
    }

    /// Takes the flag down without queueing anything, for wake-ups that carry no work.
    pub fn wake(&self) -> Wake {
        if self.sleeping.load(Ordering::SeqCst) && self.sleeping.swap(false, Ordering::SeqCst) {
            Wake::Yes
        } else {
            Wake::No
        }
    }

    /// Announces that the loop is going to block. False if something is queued: then it must not.
    pub fn prepare_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::SeqCst);
        // Under the lock, which orders this against a push: either the item is seen here, or the pusher comes later
        // and sees the flag.
        let empty = self.lock().items.is_empty();
        if !empty {
            self.end_sleep();
        }
        empty
    }

    /// Announces that the loop is awake.
    pub fn end_sleep(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }

    /// Takes everything out, in the order in which it came.
    pub fn take(&self) -> Vec<T> {
        if self.len.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let mut queue = self.lock();
        self.len.store(0, Ordering::Release);
        std::mem::take(&mut queue.items)
    }

    /// Whether [`take`](Self::take) would find something.
    #[inline]
    pub fn has_items(&self) -> bool {
        self.len.load(Ordering::Acquire) != 0
    }

    /// Refuses whatever comes from now on, and takes out what came before.
    pub fn close(&self) -> Vec<T> {
        self.lock().closed = true;
        self.take()
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        // Nothing panics while the lock is held, so a poisoned one is whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
