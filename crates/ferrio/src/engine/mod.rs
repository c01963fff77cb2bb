//! The engine: it decides *when* something runs.
//!
//! | file | noun | belongs to |
//! |---|---|---|
//! | [`event_loop`](EventLoop) | one turn, and the only function that fixes its order | the loop's thread |
//! | [`runnable`](Runnable) | something to run: a pointer and a static table of functions | whoever holds it |
//! | [`ready`](self) | what runs in the next turn, first in, first out | the loop's thread |
//! | [`timers`](Timers) | what runs at a time | the loop's thread |
//! | [`reactor`](Reactor) | what runs when a descriptor is ready | the loop's thread |
//! | [`signals`](Signals) | what runs when a signal arrived | the loop's thread; the pipe's far end is the handler's |
//! | [`children`](ChildWatch) | what runs when a child process has ended | the loop's thread |
//! | [`inject`](Inject) | what other threads hand over | any thread |
//! | [`loop_handle`](LoopHandle) | all that another thread may hold of a loop | any thread |
//! | [`task`](crate::spawn) | how a Rust future becomes runnables of a loop | the loop's thread; its waker is any thread's |
//! | [`blocking`](BlockingPool) | threads for what would block the loop | any thread |
//! | [`park`](Park) | how the thread waits | the embedder |
//! | [`burst`](SendTime) | whether what a turn sends leaves at its end | the loop's thread |
//! | [`spin`](self) | whether a wait looks before it sleeps | the loop's thread |
//! | [`clock`](Clock) | what time it is | the loop's thread |
//! | [`stats`](Stats) | counters of turns, runs, waits | the loop's thread |
//!
//! The engine calls out at two points only: [`Runnable::run`], from [`EventLoop::run_once`], and [`Park::park`]. No
//! borrow is held across either, because what runs may do anything: schedule, cancel, close, or drop what it came from.
//! For the same reason a method that replaces or removes a [`Runnable`] returns it, so that the caller drops it
//! outside.

mod blocking;
mod burst;
mod children;
mod clock;
mod event_loop;
mod inject;
mod loop_handle;
mod park;
mod reactor;
mod ready;
mod runnable;
mod signals;
mod spin;
mod stats;
mod task;
mod timers;

pub use blocking::{BlockingPool, BlockingTask};
pub use burst::SendTime;
pub use children::ChildWatch;
pub use clock::{Clock, Nanos};
pub(crate) use event_loop::current_or_panic;
pub use event_loop::{Entered, EventLoop};
pub use inject::{Inject, Wake};
pub use loop_handle::LoopHandle;
pub use park::{BlockingPark, Park, Wait};
pub(crate) use reactor::closed;
pub use reactor::{Direction, Reactor, SourceKey};
pub use runnable::{Flow, Runnable, SendRunnable, Vtable, Work};
pub use signals::Signals;
pub use stats::Stats;
pub(crate) use task::{AbortHandle, Task, contain_drop, lend, spawn as spawn_task};
pub use timers::{TimerKey, Timers};
