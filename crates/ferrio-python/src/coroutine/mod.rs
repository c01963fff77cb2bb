//! Coroutines for Python whose body is Rust.
//!
//! | file | what |
//! |---|---|
//! | this one | the coroutine object, which drives a body and awaits for it |
//! | [`awaited`] | `await object`, for whatever the object is |
//! | [`methods`] | what Python sees of a coroutine |
//! | [`body`] | a body written as an `async` block |
//! | [`code`] | the code object and the frame that it shows |
//! | [`wrapper`] | what Python gets that asks for `__await__()` |
//!
//! A body is a [`Frame`]: a state machine that is stepped when the coroutine is, and says whether it returns or what it
//! waits for. What is awaited, a future of ours or anything else with an `__await__`, is the coroutine's business; the
//! frame hears of it again when there is an outcome. Frames are written by hand where objects are made and thrown away
//! with every call, or where the garbage collector must see what the frame holds; an `async` block serves elsewhere.
//!
//! # Budget
//!
//! A call whose body does not wait, such as the acquisition of a free lock, allocates nothing: the last coroutine that
//! returned is used again, or else one is taken from the pool and returned there. A frame of up to [`Room`] lies in the
//! object, and stays there while it runs.

mod awaited;
mod body;
mod code;
mod methods;
mod wrapper;

use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTypeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, intern};
use smallbox::{SmallBox, smallbox};

use self::awaited::{Awaited, Progress};
use crate::asyncio;
use crate::ffi::cell::{GilCell, GilCopy, GilExclusive};
use crate::ffi::coroutine::Step;
use crate::ffi::finalizer::Finalize;
use crate::ffi::pool::{self, Pool, Pooled, Spare};
use crate::ffi::raise::{self, Raised};
use crate::ffi::send_slots::Driven;
use crate::ffi::thread::attached;
use crate::futures::Future;

pub(crate) use body::await_;

/// What came of what a frame waited for; Python's `None` when it is stepped for the first time.
pub(crate) type Outcome<'py> = PyResult<Bound<'py, PyAny>>;

/// What a frame does next.
pub(crate) enum Next<'py> {
    /// It is done, with a value.
    Return(Bound<'py, PyAny>),
    /// It is to be stepped with the outcome of `await object`.
    Await(Bound<'py, PyAny>),
    /// It is to be stepped in the loop's next turn.
    Pause,
}

/// The body of a coroutine.
pub(crate) trait Frame: Send {
    /// Goes on from where the frame waits, with the outcome. Runs Python code.
    ///
    /// # Errors
    ///
    /// What the coroutine raises; the frame is not stepped again.
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>>;

    /// Shows what the frame holds to the garbage collector.
    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError>;
}

/// Six words: what most frames need. A larger one is allocated.
type Room = [usize; 6];

type Body = SmallBox<dyn Frame, Room>;

/// A coroutine, to `asyncio.iscoroutine`, `create_task` and `await`.
#[pyclass(frozen, weakref, module = "ferrio._ferrio", name = "coroutine")]
pub(crate) struct Coroutine {
    /// The name of the function, as `__qualname__` has it.
    name: GilCopy<&'static str>,
    stage: GilCopy<Stage>,
    /// What is waited for, while the coroutine is suspended.
    awaited: GilCell<Option<Awaited>>,
    /// The frame, until the coroutine is finished. In use while it runs.
    body: GilExclusive<Option<Body>>,
}

/// How far a coroutine has come. Who comes back to one that runs sees that here, before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Created,
    Suspended,
    Running,
    Finished,
}

/// The last coroutine that returned: most return before the next is made.
static SPARE: Spare<Coroutine> = Spare::empty();

impl Coroutine {
    /// A coroutine of the function `name` that runs `frame` when it is driven.
    ///
    /// Inlined wherever it is called, so that the frame is made where it is to lie.
    #[inline(always)]
    pub(crate) fn of<'py>(
        py: Python<'py>,
        name: &'static str,
        frame: impl Frame + 'static,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Some(spare) = SPARE.take(py) else { return Self::make(py, name, frame) };
        let coroutine = spare.get();
        debug_assert_eq!(coroutine.stage.get(py), Stage::Finished);
        let Some(mut body) = coroutine.body.try_use(py) else { return Self::make(py, name, frame) };
        *body = Some(smallbox!(frame));
        drop(body);
        coroutine.name.set(py, name);
        coroutine.stage.set(py, Stage::Created);
        Ok(spare.into_any())
    }

    #[cold]
    fn make<'py>(py: Python<'py>, name: &'static str, frame: impl Frame + 'static) -> PyResult<Bound<'py, PyAny>> {
        let body: Body = smallbox!(frame);
        let new = Self {
            name: GilCopy::new(name),
            stage: GilCopy::new(Stage::Created),
            awaited: GilCell::new(None),
            body: GilExclusive::new(Some(body)),
        };
        pool::make(py, new).map(Bound::into_any)
    }

    /// Goes on until the body waits or ends; `failure` is raised where it waits.
    #[inline]
    fn drive<'py>(&self, py: Python<'py>, failure: Option<Bound<'py, PyAny>>) -> Step<'py> {
        match (self.stage.get(py), failure) {
            (Stage::Created, None) => self.begin(py),
            (Stage::Suspended, failure) => self.resume(py, failure),
            (Stage::Created, Some(failure)) => {
                self.finish(py);
                Step::Raised(raise::exception(failure))
            }
            (stage @ (Stage::Running | Stage::Finished), _) => unusable(py, stage),
        }
    }

    /// The first step. Most coroutines that are made often end here.
    #[inline]
    fn begin<'py>(&self, py: Python<'py>) -> Step<'py> {
        self.stage.set(py, Stage::Running);
        let Some(mut body) = self.body.try_use(py) else { return unusable(py, Stage::Running) };
        let Some(frame) = &mut *body else { return unusable(py, Stage::Finished) };
        let next = frame.step(py, Ok(py.None().into_bound(py)));
        self.conclude(py, &mut body, next)
    }

    /// What comes of a step. Inlined, as an outcome or a result that is moved costs more than the rest.
    #[inline(always)]
    fn conclude<'py>(&self, py: Python<'py>, body: &mut Option<Body>, next: PyResult<Next<'py>>) -> Step<'py> {
        match next {
            Ok(Next::Return(value)) => {
                self.end(py, body);
                Step::Returned(value)
            }
            Ok(Next::Await(object)) => match Future::native(&object) {
                Some(future) if future.get().is_pending(py) => {
                    future.get().blocking.set(py, true);
                    let awaited = Awaited::Future(future.clone().unbind());
                    self.suspend(py, awaited, object)
                }
                _ => self.go_on(py, body, Awaited::begin(object)),
            },
            Ok(Next::Pause) => self.suspend(py, Awaited::Turn, py.None().into_bound(py)),
            Err(error) => {
                self.end(py, body);
                failed(py, error)
            }
        }
    }

    fn resume<'py>(&self, py: Python<'py>, failure: Option<Bound<'py, PyAny>>) -> Step<'py> {
        self.stage.set(py, Stage::Running);
        let Some(mut body) = self.body.try_use(py) else { return unusable(py, Stage::Running) };
        let awaited = self.awaited.take(py).unwrap_or(Awaited::Turn);
        match (awaited, &failure, &mut *body) {
            (Awaited::Future(future), None, Some(frame)) if !future.get().is_pending(py) => {
                let future = future.into_bound(py);
                let next = frame.step(py, Future::result(&future));
                self.conclude(py, &mut body, next)
            }
            (awaited, ..) => self.go_on(py, &mut body, awaited.resume(py, failure)),
        }
    }

    fn go_on<'py>(&self, py: Python<'py>, body: &mut Option<Body>, mut progress: Progress<'py>) -> Step<'py> {
        let result = loop {
            let outcome = match progress {
                Progress::Done(outcome) => outcome.map_err(PyErr::from),
                Progress::Waits(awaited, yielded) => return self.suspend(py, awaited, yielded),
            };
            let Some(frame) = body else { break unusable(py, Stage::Finished) };
            progress = match frame.step(py, outcome) {
                Ok(Next::Return(value)) => break Step::Returned(value),
                Ok(Next::Await(object)) => Awaited::begin(object),
                Ok(Next::Pause) => return self.suspend(py, Awaited::Turn, py.None().into_bound(py)),
                Err(error) => break failed(py, error),
            }
        };
        self.end(py, body);
        result
    }

    #[inline]
    fn suspend<'py>(&self, py: Python<'py>, awaited: Awaited, yielded: Bound<'py, PyAny>) -> Step<'py> {
        drop(self.awaited.replace(py, Some(awaited)));
        self.stage.set(py, Stage::Suspended);
        Step::Yielded(yielded)
    }

    /// Gives up the frame, which has returned or raised.
    #[inline]
    fn end(&self, py: Python<'_>, body: &mut Option<Body>) {
        // First: what the frame's end runs may come back here.
        self.stage.set(py, Stage::Finished);
        *body = None;
    }

    /// Gives up the frame and what it waits for.
    fn finish(&self, py: Python<'_>) {
        self.stage.set(py, Stage::Finished);
        drop(self.awaited.take(py));
        let body = self.body.try_use(py).and_then(|mut body| body.take());
        drop(body);
    }

    #[inline]
    fn is_in(&self, py: Python<'_>, stage: Stage) -> bool {
        self.stage.get(py) == stage
    }
}

/// The end of a coroutine whose body has raised `error`. What was made here has no context yet.
///
/// The exception is made before anything looks at it: what closes the last coroutines can do that while the interpreter
/// ends, and a `PyErr` cannot.
#[cold]
fn failed(py: Python<'_>, error: PyErr) -> Step<'_> {
    Step::Raised(raise::in_some_context(no_end(raise::raised(py, error))))
}

/// What a coroutine raises whose body has raised `error`: a StopIteration would be taken for its return, and its value
/// for the result. One gets there out of what the body calls for its caller, a predicate for one.
fn no_end(error: Raised<'_>) -> Raised<'_> {
    if !error.is_instance_of::<PyStopIteration>() {
        return error;
    }
    let (py, error) = (error.py(), PyErr::from(error));
    let raised = raise::settled(py, PyRuntimeError::new_err("coroutine raised StopIteration"));
    raised.set_context(py, Some(error.clone_ref(py)));
    raised.set_cause(py, Some(error));
    raise::raised(py, raised)
}

/// Why a coroutine cannot be driven that runs or has ended.
#[cold]
fn unusable(py: Python<'_>, stage: Stage) -> Step<'_> {
    let error = match stage {
        Stage::Finished => PyRuntimeError::new_err("cannot reuse already awaited coroutine"),
        _ => PyValueError::new_err("coroutine already executing"),
    };
    Step::failed(py, error)
}

impl Driven for Coroutine {
    #[inline]
    fn advance<'py>(this: &Bound<'py, Self>) -> Step<'py> {
        let step = this.get().drive(this.py(), None);
        if let Step::Returned(_) = step {
            SPARE.keep(this);
        }
        step
    }

    fn throw<'py>(this: &Bound<'py, Self>, failure: Bound<'py, PyAny>) -> Step<'py> {
        this.get().drive(this.py(), Some(failure))
    }

    /// Only for a generator that is a coroutine: the interpreter lets nobody else iterate its own.
    fn iterate<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let frame = asyncio::module(py, "sys")?.call_method1(intern!(py, "_getframe"), (0,))?;
        let flags: u32 = frame.getattr(intern!(py, "f_code"))?.getattr(intern!(py, "co_flags"))?.extract()?;
        // inspect.CO_ITERABLE_COROUTINE, which the language has fixed.
        if flags & 0x100 != 0 {
            return Ok(this.clone().into_any());
        }
        Err(PyTypeError::new_err("'coroutine' object is not iterable"))
    }

    fn is_created(this: &Bound<'_, Self>) -> bool {
        this.get().is_in(this.py(), Stage::Created)
    }
}

impl Finalize for Coroutine {
    fn finalize(this: &Bound<'_, Self>) {
        let py = this.py();
        let result = if Self::is_created(this) {
            asyncio::warn_unawaited_coroutine(py).and_then(|warn| warn.call1((this,))).map(drop)
        } else {
            this.get().close(py)
        };
        if let Err(error) = result {
            error.write_unraisable(py, Some(this));
        }
    }
}

impl Pooled for Coroutine {
    type Base = ();

    fn pool() -> &'static Pool {
        static POOL: Pool = Pool::new();
        &POOL
    }

    fn is_last_word_due(this: &Bound<'_, Self>) -> bool {
        !this.get().is_in(this.py(), Stage::Finished)
    }

    fn dispose(self, py: Python<'_>) {
        let (awaited, body) = (self.awaited.into_inner(), self.body.into_inner());
        if awaited.is_some() || body.is_some() {
            attached(py, |_| drop((awaited, body)));
        }
    }
}
