//! Tasks that end together.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread;

use slab::Slab;

use crate::engine::{AbortHandle, contain_drop, current_or_panic, spawn_task};
use crate::task::JoinHandle;

/// Runs `body` and the tasks that it spawns into its group, and is done when all of them are.
///
/// The first that fails, `body` or a task, ends the group: `body` is dropped where it waits, the tasks are
/// [aborted](JoinHandle::abort), and the error is returned when none is left. A panic ends it just so, and goes on from
/// here. So nothing that was spawned into a group outlives it.
///
/// # Errors
///
/// The first error of `body` or of a task.
///
/// # Panics
///
/// With the first panic of `body` or of a task.
///
/// # Cancel safety
///
/// Dropping it drops `body` and aborts the tasks, which are dropped in the loop's next turn.
///
/// # Examples
///
/// ```
/// use std::io;
///
/// async fn job(id: u32) -> io::Result<u32> {
///     ferrio::yield_now().await;
///     Ok(id)
/// }
///
/// let sum = ferrio::run(ferrio::task_group(async |group| {
///     let (one, two) = (group.spawn(job(1)), group.spawn(job(2)));
///     Ok::<_, io::Error>(one.await? + two.await?)
/// }))??;
/// assert_eq!(sum, 3);
/// # Ok::<(), io::Error>(())
/// ```
pub async fn task_group<T, E: 'static>(body: impl AsyncFnOnce(&TaskGroup<E>) -> Result<T, E>) -> Result<T, E> {
    let group = TaskGroup(Rc::new(Shared::new()));
    let _end = AbortOnDrop(&group.0);
    let mut body = pin!(Some(catch_panic(async { body(&group).await })));
    // Beside `body`, which is not looked at by a shared reference: it refers to itself, by references that are not.
    let mut is_running = true;
    let mut output = None;
    let failure = poll_fn(|cx| {
        group.0.listen(cx);
        if let Some(running) = body.as_mut().as_pin_mut()
            && let Poll::Ready(result) = running.poll(cx)
        {
            is_running = false;
            body.set(None);
            match result {
                Ok(Ok(value)) => output = Some(value),
                Ok(Err(error)) => group.0.fail(Failure::Error(error)),
                Err(payload) => group.0.fail(Failure::Panic(payload)),
            }
        }
        if group.0.is_failed() {
            is_running = false;
            contain_drop(|| body.set(None));
        }
        if is_running || group.0.has_members() {
            return Poll::Pending;
        }
        Poll::Ready(group.0.end())
    })
    .await;
    match (failure, output) {
        (Some(Failure::Error(error)), _) => Err(error),
        (Some(Failure::Panic(payload)), _) => resume_unwind(payload),
        (None, Some(output)) => Ok(output),
        (None, None) => unreachable!("a body that has not failed has returned"),
    }
}

/// Where a [`task_group`]'s body and its tasks spawn others. A clone is of the same group.
pub struct TaskGroup<E>(Rc<Shared<E>>);

impl<E: 'static> TaskGroup<E> {
    /// Runs `future` on the current loop, as a part of the group. It begins in the loop's next turn.
    ///
    /// Its value is the handle's; its error is the group's, and to the handle it is [`Aborted`](crate::Aborted), as is
    /// every task that the group ends. In a group that has failed or ended `future` is dropped at once, and aborted as
    /// well.
    ///
    /// # Panics
    ///
    /// If no loop runs on this thread.
    #[track_caller]
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = Result<T, E>> + 'static) -> JoinHandle<T> {
        let event_loop = current_or_panic();
        if self.0.is_closed() {
            let nothing = JoinHandle::new(spawn_task(&event_loop, pending()));
            nothing.abort();
            return nothing;
        }
        let key = self.0.members.borrow_mut().insert(None);
        let membership = Membership { key, group: Rc::clone(&self.0) };
        let task = spawn_task(&event_loop, async move {
            let failure = match catch_panic(future).await {
                Ok(Ok(value)) => return value,
                Ok(Err(error)) => Failure::Error(error),
                Err(payload) => Failure::Panic(payload),
            };
            // Which ends this task as well.
            membership.group.fail(failure);
            pending().await
        });
        // The future is gone already if the loop is closed.
        if let Some(member) = self.0.members.borrow_mut().get_mut(key) {
            *member = Some(task.abort_handle());
        }
        JoinHandle::new(task)
    }
}

impl<E> Clone for TaskGroup<E> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<E> fmt::Debug for TaskGroup<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup").field("tasks", &self.0.members.borrow().len()).finish_non_exhaustive()
    }
}

/// Why a group ends before its time.
enum Failure<E> {
    Error(E),
    Panic(Box<dyn Any + Send>),
}

/// What a group's body, its tasks and its handles know of it. No borrow lasts while anything of the program's is run or
/// dropped.
struct Shared<E> {
    /// The tasks that are not done. Nothing for one that is just being made.
    members: RefCell<Slab<Option<AbortHandle>>>,
    failure: RefCell<Option<Failure<E>>>,
    /// Whether the group takes no more tasks: it has failed, ended, or is gone.
    closed: Cell<bool>,
    /// Who polls the group.
    waker: RefCell<Option<Waker>>,
}

impl<E> Shared<E> {
    fn new() -> Self {
        Self {
            members: RefCell::default(),
            failure: RefCell::new(None),
            closed: Cell::new(false),
            waker: RefCell::default(),
        }
    }

    fn listen(&self, cx: &Context<'_>) {
        drop(self.waker.replace(Some(cx.waker().clone())));
    }

    fn wake(&self) {
        let waker = self.waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.get()
    }

    fn is_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    fn has_members(&self) -> bool {
        !self.members.borrow().is_empty()
    }

    /// Ends the group, unless it is ending: only the first failure counts.
    fn fail(&self, failure: Failure<E>) {
        if self.is_closed() {
            return;
        }
        *self.failure.borrow_mut() = Some(failure);
        self.abort();
        self.wake();
    }

    /// Has every task dropped in place of its next step, and takes no more.
    fn abort(&self) {
        self.closed.set(true);
        // To abort a task is to wake it: nothing of it runs here.
        self.members.borrow().iter().filter_map(|(_, member)| member.as_ref()).for_each(AbortHandle::abort);
    }

    /// The failure, when nothing is left.
    fn end(&self) -> Option<Failure<E>> {
        self.closed.set(true);
        self.failure.take()
    }
}

struct AbortOnDrop<'a, E>(&'a Shared<E>);

impl<E> Drop for AbortOnDrop<'_, E> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A task's place in its group, until its future is gone.
struct Membership<E> {
    key: usize,
    group: Rc<Shared<E>>,
}

impl<E> Drop for Membership<E> {
    fn drop(&mut self) {
        let member = self.group.members.borrow_mut().try_remove(self.key);
        drop(member);
        self.group.wake();
    }
}

/// Awaits `future`, and catches its panic, or that of its destructor.
async fn catch_panic<F: Future>(future: F) -> thread::Result<F::Output> {
    let mut future = pin!(Some(future));
    poll_fn(|cx| {
        let poll = catch_unwind(AssertUnwindSafe(|| {
            let Some(running) = future.as_mut().as_pin_mut() else { return Poll::Pending };
            let poll = running.poll(cx);
            if poll.is_ready() {
                future.set(None);
            }
            poll
        }));
        match poll {
            Ok(poll) => poll.map(Ok),
            Err(payload) => {
                contain_drop(|| future.set(None));
                Poll::Ready(Err(payload))
            }
        }
    })
    .await
}
