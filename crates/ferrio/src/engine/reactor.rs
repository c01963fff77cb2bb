//! What runs when a descriptor is ready.
//!
//! A *source* is a descriptor with at most one [`Runnable`] for each direction; a clone of it is queued by every turn
//! that finds the descriptor ready. The token that the kernel keeps for a source carries the generation of its slot, so
//! an event that was on its way when the source went, or a key that outlived it, meets nobody.
//!
//! The reactor does not own descriptors. Whoever does calls [`Reactor::remove`] before closing; when a user closes one
//! that is still watched, the kernel forgets it, and the errors that this leads to here are expected and ignored. The
//! number may be another's by then, perhaps another source's: the reactor remembers which source the kernel watches
//! under a number, and asks nothing for one that has lost it. (The kernel forgets a descriptor with its last duplicate.
//! One that is closed while watched and lives on as a duplicate cannot be named any more, so its events go on, to
//! nobody, and each ends a wait.)

use std::cell::{Cell, Ref, RefCell};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use slab::Slab;

use super::{Runnable, Stats, stats};
use crate::sys::{Events, Interest, Poller, Readiness};

/// Which side of a descriptor is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// There is something to read, or nothing will ever come.
    Read,
    /// There is room to write, or nothing can be written any more.
    Write,
}

/// Names one source for as long as it exists; later it names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceKey {
    slot: u32,
    generation: u32,
}

impl SourceKey {
    /// Of no source: its generation is never given to one.
    const NONE: Self = Self { slot: u32::MAX, generation: u32::MAX };

    fn token(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    fn from_token(token: u64) -> Self {
        Self { slot: token as u32, generation: (token >> 32) as u32 }
    }
}

#[derive(Debug)]
struct Source {
    fd: RawFd,
    generation: u32,
    /// What the kernel has been told.
    armed: Interest,
    /// Whether who waits for input wants to be told of changes only.
    read_edge: bool,
    /// The same for output.
    write_edge: bool,
    /// What is to be queued when there is input.
    read: Option<Runnable>,
    /// What is to be queued when there is room for output.
    write: Option<Runnable>,
}

/// What is to be queued when a source is ready in one direction.
#[derive(Debug, Default)]
struct Side {
    work: Option<Runnable>,
    /// Whether it wants to be told of changes only.
    edge: bool,
}

impl Source {
    fn work(&mut self, direction: Direction) -> &mut Option<Runnable> {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }

    /// Puts `side` in the place of what is there.
    fn swap(&mut self, direction: Direction, side: &mut Side) {
        let edge = match direction {
            Direction::Read => &mut self.read_edge,
            Direction::Write => &mut self.write_edge,
        };
        std::mem::swap(edge, &mut side.edge);
        std::mem::swap(self.work(direction), &mut side.work);
    }

    /// The kernel knows one mode for both directions. Who wants to be told of changes can bear to be told more often.
    fn wanted(&self) -> Interest {
        let (readable, writable) = (self.read.is_some(), self.write.is_some());
        let edge = (readable || writable) && (!readable || self.read_edge) && (!writable || self.write_edge);
        Interest { readable, writable, edge }
    }
}

/// The watched descriptors of one loop.
///
/// # Examples
///
/// ```
/// use std::cell::Cell;
/// use std::io::Write;
/// use std::os::fd::AsRawFd;
/// use std::os::unix::net::UnixStream;
/// use std::rc::Rc;
/// use ferrio::engine::{BlockingPark, Clock, Direction, EventLoop, Flow, Runnable, Work};
///
/// #[derive(Default)]
/// struct Flag(Cell<bool>);
///
/// impl Work for Flag {
///     fn run(&self) -> Flow {
///         self.0.set(true);
///         Flow::Continue
///     }
/// }
///
/// let event_loop = EventLoop::new(Clock::Monotonic)?;
/// let (ours, mut theirs) = UnixStream::pair()?;
/// let readable = Rc::new(Flag::default());
/// let key = event_loop.reactor().insert(ours.as_raw_fd());
/// event_loop.reactor().watch(key, Direction::Read, Runnable::from_rc(readable.clone()))?;
/// theirs.write_all(b"hello")?;
/// assert_eq!(event_loop.run_once(&mut BlockingPark)?, Flow::Continue);
/// assert!(readable.0.get());
/// // Before the descriptor is closed.
/// drop(event_loop.reactor().remove(key));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Reactor {
    /// None once the loop is closed.
    poller: RefCell<Option<Poller>>,
    sources: RefCell<Sources>,
    next_generation: Cell<u32>,
    /// How many sources the kernel watches now. While it is zero there is nothing to ask the kernel for.
    armed: Cell<usize>,
}

#[derive(Debug, Default)]
struct Sources {
    slab: Slab<Source>,
    /// The source that the kernel watches under a descriptor number: exactly those whose `armed` is something.
    owners: Owners,
}

/// Sources by descriptor numbers, which are small and dense.
#[derive(Debug, Default)]
struct Owners {
    table: Vec<SourceKey>,
    count: usize,
}

impl Owners {
    fn get(&self, number: RawFd) -> Option<SourceKey> {
        self.table.get(usize::try_from(number).ok()?).copied().filter(|owner| *owner != SourceKey::NONE)
    }

    /// Writes down the owner of `number`, which the kernel knows, and returns the one before.
    fn insert(&mut self, number: RawFd, owner: SourceKey) -> Option<SourceKey> {
        let place = usize::try_from(number).ok()?;
        if self.table.len() <= place {
            self.table.resize(place + 1, SourceKey::NONE);
        }
        let before = Some(std::mem::replace(&mut self.table[place], owner)).filter(|before| *before != SourceKey::NONE);
        self.count += usize::from(before.is_none());
        before
    }

    fn remove(&mut self, number: RawFd) {
        if self.get(number).is_some() {
            // Not negative, or it would not be there.
            self.table[number as usize] = SourceKey::NONE;
            self.count -= 1;
        }
    }
}

impl Sources {
    fn get_mut(&mut self, key: SourceKey) -> Option<&mut Source> {
        self.slab.get_mut(key.slot as usize).filter(|source| source.generation == key.generation)
    }

    /// Whether the kernel watches the descriptor for one that can be taken away.
    fn is_left_in_place(&mut self, number: RawFd) -> bool {
        let owner = self.owners.get(number);
        owner.and_then(|owner| self.get_mut(owner)).is_some_and(|owner| owner.armed.edge)
    }
}

/// The token of the loop's wake-up descriptor. Its generation is never given to a source.
const WAKE: u64 = u64::MAX;
/// The token of the loop's signal pipe.
const SIGNAL: u64 = u64::MAX - 1;
/// Generations count up to here and begin again: far enough that a key does not meet its successor's successor.
const LAST_GENERATION: u32 = u32::MAX - 1;

impl Reactor {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            poller: RefCell::new(Some(Poller::new()?)),
            sources: RefCell::default(),
            next_generation: Cell::new(0),
            armed: Cell::new(0),
        })
    }

    pub(super) fn poller(&self) -> io::Result<Ref<'_, Poller>> {
        Ref::filter_map(self.poller.borrow(), Option::as_ref).map_err(|_| closed())
    }

    pub(super) fn watch_wake_fd(&self, fd: impl AsFd) -> io::Result<()> {
        self.poller()?.add(fd.as_fd().as_raw_fd(), WAKE, Interest { readable: true, writable: false, edge: true })
    }

    pub(super) fn watch_signal_pipe(&self, fd: impl AsFd) -> io::Result<()> {
        self.poller()?.add(fd.as_fd().as_raw_fd(), SIGNAL, Interest { readable: true, ..Interest::default() })
    }

    /// Whether any descriptor is watched.
    #[inline]
    pub fn is_watching(&self) -> bool {
        self.armed.get() != 0
    }

    /// How many sources exist.
    pub fn len(&self) -> usize {
        self.sources.borrow().slab.len()
    }

    /// Whether no source exists.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes a source of `fd`; the kernel hears of it with the first [`watch`](Self::watch).
    ///
    /// # Panics
    ///
    /// When 2^32 sources exist.
    pub fn insert(&self, fd: RawFd) -> SourceKey {
        let generation = self.next_generation.get();
        self.next_generation.set(if generation == LAST_GENERATION { 0 } else { generation + 1 });
        let source = Source {
            fd,
            generation,
            armed: Interest::default(),
            read_edge: false,
            write_edge: false,
            read: None,
            write: None,
        };
        let slot = self.sources.borrow_mut().slab.insert(source);
        let Ok(slot) = u32::try_from(slot) else { panic!("more than 2^32 descriptors are watched") };
        SourceKey { slot, generation }
    }

    /// Has `runnable` queued whenever the source is ready in `direction`, and returns what was there before.
    ///
    /// # Errors
    ///
    /// `EPERM` if the descriptor has no readiness, `EBADF` if it is not open, `ENOSPC`, `ENOMEM`, `NotFound` if the
    /// source is gone, and `NotConnected` if the loop is closed. The source is unchanged then.
    pub fn watch(&self, key: SourceKey, direction: Direction, runnable: Runnable) -> io::Result<Option<Runnable>> {
        self.put(key, direction, Side { work: Some(runnable), edge: false })
    }

    /// As [`watch`](Self::watch), for who has tried in vain and wants to be told when to try again: once for each
    /// change, and not by every turn. Such a watch can be left in place between two tries, and costs no call then; but
    /// another source that wants the descriptor takes it away.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn watch_edge(&self, key: SourceKey, direction: Direction, runnable: Runnable) -> io::Result<Option<Runnable>> {
        self.put(key, direction, Side { work: Some(runnable), edge: true })
    }

    fn put(&self, key: SourceKey, direction: Direction, mut side: Side) -> io::Result<Option<Runnable>> {
        let result = self.change(key, |source| {
            source.swap(direction, &mut side);
            // Who watches again what is watched may mean the number's new owner, of which the kernel knows nothing.
            if side.work.is_some() { Tell::Always } else { Tell::IfChanged }
        });
        if let Err(error) = result {
            // Taken back, so that the source says what the kernel knows.
            _ = self.change(key, |source| {
                source.swap(direction, &mut side);
                Tell::IfChanged
            });
            return Err(error);
        }
        Ok(side.work)
    }

    /// Ends the watch in `direction`, and returns what was there.
    pub fn unwatch(&self, key: SourceKey, direction: Direction) -> Option<Runnable> {
        let mut runnable = None;
        // The descriptor may be closed, or its number belong to another already: either way nothing is left to undo.
        _ = self.change(key, |source| {
            runnable = source.work(direction).take();
            Tell::IfChanged
        });
        runnable
    }

    /// Whether the source is watched in `direction`.
    pub fn is_watched(&self, key: SourceKey, direction: Direction) -> bool {
        self.sources.borrow_mut().get_mut(key).is_some_and(|source| source.work(direction).is_some())
    }

    /// Whether the kernel watches the source in `direction`, as far as is known: what its user does to the descriptor
    /// is not.
    pub fn is_armed(&self, key: SourceKey, direction: Direction) -> bool {
        self.sources.borrow_mut().get_mut(key).is_some_and(|source| match direction {
            Direction::Read => source.armed.readable,
            Direction::Write => source.armed.writable,
        })
    }

    /// Forgets the source, and returns what was there for reading and for writing.
    pub fn remove(&self, key: SourceKey) -> (Option<Runnable>, Option<Runnable>) {
        let (mut read, mut write) = (None, None);
        // As in `unwatch`.
        _ = self.change(key, |source| {
            (read, write) = (source.read.take(), source.write.take());
            Tell::IfChanged
        });
        let mut sources = self.sources.borrow_mut();
        if sources.get_mut(key).is_some() {
            sources.slab.remove(key.slot as usize);
        }
        (read, write)
    }

    /// Takes every source out, for the caller to drop its work, and gives the kernel's part of it back for good.
    pub(super) fn close(&self) -> Vec<Runnable> {
        // In use only if the loop is closed by what runs inside its wait: then it goes when the loop goes.
        let poller = self.poller.try_borrow_mut().ok().and_then(|mut poller| poller.take());
        drop(poller);
        self.armed.set(0);
        let mut runnables = Vec::new();
        for (_, source) in self.sources.take().slab {
            runnables.extend(source.read);
            runnables.extend(source.write);
        }
        runnables
    }

    /// Shows the work of every source to `visit`.
    pub fn for_each(&self, mut visit: impl FnMut(&Runnable)) {
        for (_, source) in self.sources.borrow().slab.iter() {
            source.read.iter().chain(&source.write).for_each(&mut visit);
        }
    }

    /// Hands clones of what became ready to `push`; true if the signal pipe is among it.
    pub(super) fn dispatch(&self, events: &Events, stats: &Stats, mut push: impl FnMut(Runnable)) -> bool {
        stats::add(&stats.waits, 1);
        let mut signalled = false;
        for event in events.iter() {
            match event.token {
                WAKE => {}
                SIGNAL => signalled = true,
                _ => self.dispatch_one(event, &mut push),
            }
        }
        signalled
    }

    fn dispatch_one(&self, event: Readiness, push: &mut impl FnMut(Runnable)) {
        let key = SourceKey::from_token(event.token);
        let sources = self.sources.borrow();
        let Some(source) = sources.slab.get(key.slot as usize) else { return };
        if source.generation != key.generation {
            return;
        }
        if let (true, Some(runnable)) = (event.readable, &source.read) {
            push(runnable.clone());
        }
        if let (true, Some(runnable)) = (event.writable, &source.write) {
            push(runnable.clone());
        }
    }

    /// Applies `change` to the source and tells the kernel what that means for it.
    fn change(&self, key: SourceKey, change: impl FnOnce(&mut Source) -> Tell) -> io::Result<()> {
        let mut sources = self.sources.borrow_mut();
        let Some(source) = sources.get_mut(key) else { return Err(io::ErrorKind::NotFound.into()) };
        let tell = change(source);
        let (number, armed, wanted) = (source.fd, source.armed, source.wanted());
        if armed == wanted && (wanted.is_none() || tell == Tell::IfChanged) {
            return Ok(());
        }
        let poller = self.poller()?;
        let result = match (armed.is_none(), wanted.is_none()) {
            (true, _) if !sources.is_left_in_place(number) => poller.add(number, key.token(), wanted),
            // Nothing wanted is not the same as an empty interest: the kernel would go on to report hang-ups.
            (_, true) => poller.delete(number),
            (_, false) => match poller.modify(number, key.token(), wanted) {
                // Closed and opened again under our feet: the number is what was asked for, so watch its new owner.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => poller.add(number, key.token(), wanted),
                result => result,
            },
        };
        if result.is_ok() || wanted.is_none() {
            if let Some(source) = sources.get_mut(key) {
                source.armed = wanted;
            }
            if wanted.is_none() {
                sources.owners.remove(number);
            } else if let Some(before) = sources.owners.insert(number, key).filter(|before| *before != key)
                && let Some(before) = sources.get_mut(before)
            {
                // The kernel took the number for a new one, so what the source before watched is closed.
                before.armed = Interest::default();
            }
            self.armed.set(sources.owners.count);
        }
        result
    }
}

/// What a closed loop answers.
#[cold]
pub(crate) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the event loop is closed")
}

/// When the kernel is told of a change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tell {
    /// If it changes what the kernel has been told.
    IfChanged,
    /// Even if not, unless nothing is wanted.
    Always,
}
