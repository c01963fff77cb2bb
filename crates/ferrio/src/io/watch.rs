//! Who waits for a descriptor, and until when.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use slab::Slab;
use smallvec::SmallVec;

use crate::engine::{Direction, EventLoop, Flow, Runnable, SourceKey, Work, closed, current_or_panic};

/// The watch of one descriptor. It begins with the first wait, on the loop that runs then, and stays in place between
/// two waits: the kernel tells of changes only, so that costs nothing.
#[derive(Debug, Default)]
pub(super) struct Watch {
    place: RefCell<Option<Place>>,
    read: Rc<Side>,
    write: Rc<Side>,
    /// What ran when the last call was made, and how many calls that has made.
    calls: Cell<(u32, u32)>,
}

/// How many calls a step of a task makes before others have their turn: a peer that sends without end keeps nobody
/// else from running.
const CALLS: u32 = 32;

/// Where the descriptor is watched.
#[derive(Debug)]
struct Place {
    /// Weak, because the loop reaches the watch through the tasks that wait for it.
    event_loop: Weak<EventLoop>,
    fd: RawFd,
    key: SourceKey,
}

/// Those who wait in one direction. It is what the reactor queues.
#[derive(Debug, Default)]
struct Side {
    /// How often the kernel has told of a change.
    changes: Cell<u64>,
    /// One place for each [`Change`] that waits. It is given up by that, and not by who wakes it.
    waiters: RefCell<Slab<Option<Waker>>>,
    /// Whoever waits without a place: the latest.
    poller: RefCell<Option<Waker>>,
}

impl Work for Side {
    fn run(&self) -> Flow {
        self.changes.set(self.changes.get().wrapping_add(1));
        let mut wakers: SmallVec<[Waker; 4]> = self.poller.take().into_iter().collect();
        wakers.extend(self.waiters.borrow_mut().iter_mut().filter_map(|(_, waker)| waker.take()));
        wakers.into_iter().for_each(Waker::wake);
        Flow::Continue
    }
}

impl Watch {
    fn side(&self, direction: Direction) -> &Rc<Side> {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    /// Waits until the descriptor `fd` is ready, if that is new to the kernel: for who has tried in vain.
    pub(super) fn change(&self, fd: RawFd, direction: Direction) -> Change<'_> {
        Change { watch: self, fd, direction, again: false, waits: None }
    }

    /// Waits until `fd` is ready, also if it has been for long.
    pub(super) fn ready(&self, fd: RawFd, direction: Direction) -> Change<'_> {
        Change { again: true, ..self.change(fd, direction) }
    }

    /// Makes a call on `fd`, until it does not have to wait, for one who is polled and has no place to keep: the latest
    /// is woken.
    pub(super) fn poll_call<R>(
        &self,
        fd: RawFd,
        direction: Direction,
        cx: &Context<'_>,
        mut call: impl FnMut() -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        if !self.may_call() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            match call() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
        self.arm(fd, direction, false)?;
        // The one before is dropped with nothing borrowed.
        drop(self.side(direction).poller.replace(Some(cx.waker().clone())));
        Poll::Pending
    }

    /// Counts a call; false if it is time for others to run.
    pub(super) fn may_call(&self) -> bool {
        let running = EventLoop::with_current(EventLoop::running).unwrap_or(0);
        let (before, count) = self.calls.get();
        let count = if before == running && running != 0 { count + 1 } else { 1 };
        self.calls.set((running, count.min(CALLS)));
        count <= CALLS
    }

    /// Has the loop of this thread watch `fd`. The kernel looks `again` at one that it watches already, if that is
    /// asked.
    fn arm(&self, fd: RawFd, direction: Direction, again: bool) -> io::Result<()> {
        let event_loop = current_or_panic();
        if event_loop.is_closed() {
            return Err(closed());
        }
        let key = self.key(&event_loop, fd);
        let reactor = event_loop.reactor();
        if again || !reactor.is_armed(key, direction) {
            let side = Runnable::from_rc(Rc::clone(self.side(direction)));
            drop(reactor.watch_edge(key, direction, side)?);
        }
        Ok(())
    }

    /// The source of `fd` on `event_loop`. Those who wait for it elsewhere are woken: they come here and look.
    fn key(&self, event_loop: &Rc<EventLoop>, fd: RawFd) -> SourceKey {
        if let Some(place) = &*self.place.borrow()
            && place.fd == fd
            && std::ptr::eq(place.event_loop.as_ptr(), Rc::as_ptr(event_loop))
        {
            return place.key;
        }
        self.end();
        let key = event_loop.reactor().insert(fd);
        *self.place.borrow_mut() = Some(Place { event_loop: Rc::downgrade(event_loop), fd, key });
        key
    }

    /// Ends the watch, and wakes who waits.
    fn end(&self) {
        let place = self.place.take();
        let Some(place) = place else { return };
        if let Some(event_loop) = place.event_loop.upgrade() {
            drop(event_loop.reactor().remove(place.key));
        }
        for side in [&self.read, &self.write] {
            _ = side.run();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

/// Done when the kernel has told of a change.
#[derive(Debug)]
#[must_use = "a wait does nothing unless it is awaited"]
pub(super) struct Change<'a> {
    watch: &'a Watch,
    fd: RawFd,
    direction: Direction,
    /// Whether the kernel is to look also if it watches already.
    again: bool,
    /// The place among those who wait, and how many changes there had been then.
    waits: Option<(usize, u64)>,
}

impl Future for Change<'_> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let side = self.watch.side(self.direction);
        let Some((place, changes)) = self.waits else {
            self.watch.arm(self.fd, self.direction, self.again)?;
            // Made and dropped with nothing borrowed, here and below: a waker can be the program's own.
            let waker = cx.waker().clone();
            let place = side.waiters.borrow_mut().insert(Some(waker));
            self.waits = Some((place, side.changes.get()));
            return Poll::Pending;
        };
        if side.changes.get() != changes {
            return Poll::Ready(Ok(()));
        }
        let is_same = |waiter: &Option<Waker>| waiter.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !side.waiters.borrow().get(place).is_some_and(is_same) {
            let waker = cx.waker().clone();
            let before = side.waiters.borrow_mut().get_mut(place).and_then(|waiter| waiter.replace(waker));
            drop(before);
        }
        Poll::Pending
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        if let Some((place, _)) = self.waits {
            let waker = self.watch.side(self.direction).waiters.borrow_mut().try_remove(place);
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    //! What cannot be seen from outside: what is left behind.

    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;
    use crate::engine::Clock;

    #[test]
    fn who_gives_up_leaves_no_place() {
        let event_loop = EventLoop::new(Clock::Monotonic).unwrap();
        let _entered = event_loop.enter();
        let (near, _far) = UnixStream::pair().unwrap();
        let (watch, mut cx) = (Watch::default(), Context::from_waker(Waker::noop()));
        for _ in 0..100 {
            assert!(pin!(watch.change(near.as_raw_fd(), Direction::Read)).poll(&mut cx).is_pending());
        }
        assert!(watch.read.waiters.borrow().is_empty());
        assert_eq!(event_loop.reactor().len(), 1);
        drop(watch);
        assert!(event_loop.reactor().is_empty());
    }

    /// A waker that waits for the same descriptor when it wakes and when it is dropped.
    #[test]
    fn wakers_may_do_anything() {
        thread_local!(static WATCH: RefCell<Option<(Rc<Watch>, RawFd)>> = const { RefCell::new(None) });

        struct Meddler;

        impl Meddler {
            fn meddle() {
                let Some((watch, fd)) = WATCH.take() else { return };
                let mut cx = Context::from_waker(Waker::noop());
                assert!(pin!(watch.change(fd, Direction::Read)).poll(&mut cx).is_pending());
                WATCH.set(Some((watch, fd)));
            }
        }

        impl Wake for Meddler {
            fn wake(self: Arc<Self>) {
                Self::meddle();
            }
        }

        impl Drop for Meddler {
            fn drop(&mut self) {
                Self::meddle();
            }
        }

        let event_loop = EventLoop::new(Clock::Monotonic).unwrap();
        let _entered = event_loop.enter();
        let (near, _far) = UnixStream::pair().unwrap();
        let watch = Rc::new(Watch::default());
        WATCH.set(Some((Rc::clone(&watch), near.as_raw_fd())));
        let mut change = pin!(watch.change(near.as_raw_fd(), Direction::Read));
        for _ in 0..3 {
            // Each poll drops the waker of the one before.
            let waker = Waker::from(Arc::new(Meddler));
            assert!(change.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        _ = watch.read.run();
        assert!(change.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        WATCH.take();
    }
}
