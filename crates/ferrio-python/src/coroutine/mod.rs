//! Coroutines for Python whose body is Rust.
//!
//! | file | what |
//! |---|---|
//! | this one | the coroutine object, which drives a body and awaits for it |
//! | [`body`] | a body written as an `async` block |
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

mod body;
mod wrapper;

use pyo3::exceptions::{PyGeneratorExit, PyRuntimeError, PyStopIteration, PyTypeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, intern};
use smallbox::{SmallBox, smallbox};

use crate::asyncio;
use crate::ffi::cell::{GilCell, GilCopy, GilExclusive};
use crate::ffi::coroutine::{self, Step};
use crate::ffi::finalizer::Finalize;
use crate::ffi::pool::{self, Pool, Pooled, Spare};
use crate::ffi::raise::{self, Raised};
use crate::ffi::send_slots::{Driven, not_begun};
use crate::ffi::stop_iteration;
use crate::ffi::thread::attached;
use crate::futures::{Future, thrown};

pub(crate) use body::await_;
use wrapper::CoroutineWrapper;

/// What came of what a frame waited for; `None` when it is stepped for the first time.
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

/// What a suspended frame waits for.
enum Awaited {
    /// The next turn.
    Turn,
    /// A future of ours, which was yielded itself.
    Future(Py<Future>),
    /// Anything else: its iterator, which is resumed with what the coroutine is resumed with.
    Iterator(Py<PyAny>),
}

/// How far waiting has come.
enum Progress<'py> {
    /// There is an outcome.
    Done(Result<Bound<'py, PyAny>, Raised<'py>>),
    /// Not yet; what is to be yielded for it.
    Waits(Awaited, Bound<'py, PyAny>),
}

impl<'py> Progress<'py> {
    /// What came of a future that is done.
    #[inline]
    fn settled(future: &Bound<'py, Future>) -> Self {
        match Future::failure(future) {
            Ok(Some(exception)) => Self::Done(Err(raise::exception(exception))),
            Ok(None) => Self::Done(Ok(future.get().value(future.py()))),
            Err(error) => Self::failed(future.py(), error),
        }
    }

    #[cold]
    fn failed(py: Python<'py>, error: PyErr) -> Self {
        Self::Done(Err(raise::raised(py, error)))
    }
}

impl Awaited {
    /// Begins to await `object`. Runs Python code.
    fn begin(object: Bound<'_, PyAny>) -> Progress<'_> {
        let py = object.py();
        if let Some(future) = Future::native(&object) {
            if !future.get().is_pending(py) {
                return Progress::settled(future);
            }
            future.get().blocking.set(py, true);
            return Progress::Waits(Self::Future(future.clone().unbind()), object.clone());
        }
        if coroutine::is_native(&object)
            || coroutine::is_awaitable_generator(&object)
            || object.is_exact_instance_of::<Coroutine>()
        {
            return Self::advance(object, None);
        }
        match object.call_method0(intern!(py, "__await__")) {
            Ok(iterator) => Self::advance(iterator, None),
            Err(error) => Progress::failed(py, not_awaitable(&object, error)),
        }
    }

    /// Goes on when the coroutine is resumed, or when `failure` is thrown into it. Runs Python code.
    fn resume<'py>(self, py: Python<'py>, failure: Option<Bound<'py, PyAny>>) -> Progress<'py> {
        match (self, failure) {
            (Self::Iterator(iterator), failure) => Self::advance(iterator.into_bound(py), failure),
            (_, Some(failure)) => Progress::Done(Err(raise::exception(failure))),
            (Self::Turn, None) => Progress::Done(Ok(py.None().into_bound(py))),
            (Self::Future(future), None) => Self::resume_future(future.into_bound(py)),
        }
    }

    /// A future that is not done is yielded again: another task has come to the same coroutine.
    fn resume_future(future: Bound<'_, Future>) -> Progress<'_> {
        let py = future.py();
        if !future.get().is_pending(py) {
            return Progress::settled(&future);
        }
        if future.get().blocking.replace(py, true) {
            return Progress::failed(py, PyRuntimeError::new_err("await wasn't used with future"));
        }
        Progress::Waits(Self::Future(future.clone().unbind()), future.into_any())
    }

    fn advance<'py>(iterator: Bound<'py, PyAny>, failure: Option<Bound<'py, PyAny>>) -> Progress<'py> {
        let py = iterator.py();
        let step = match failure {
            None => coroutine::send_none(&iterator),
            Some(failure) => match iterator.hasattr(intern!(py, "throw")) {
                Ok(true) => coroutine::throw(&iterator, &failure),
                Ok(false) => Step::Raised(raise::exception(failure)),
                Err(error) => Step::failed(py, error),
            },
        };
        match step {
            Step::Yielded(yielded) => Progress::Waits(Self::Iterator(iterator.unbind()), yielded),
            Step::Returned(value) => Progress::Done(Ok(value)),
            Step::Raised(exception) => Progress::Done(Err(exception)),
        }
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Turn => Ok(()),
            Self::Future(future) => visit.call(future),
            Self::Iterator(iterator) => visit.call(iterator),
        }
    }
}

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
                Step::failed(py, error)
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
                Err(error) => break Step::failed(py, error),
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
        let frame = py.import("sys")?.call_method1(intern!(py, "_getframe"), (0,))?;
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

/// What `await object` raises if it is the object that has no `__await__`; the error if it is something else.
#[cold]
fn not_awaitable(object: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    let py = object.py();
    let class = object.get_type();
    match (class.hasattr(intern!(py, "__await__")), class.name()) {
        (Ok(false), Ok(name)) if py.version_info() >= (3, 14) => {
            PyTypeError::new_err(format!("'{name}' object can't be awaited"))
        }
        (Ok(false), Ok(name)) => PyTypeError::new_err(format!("object {name} can't be used in 'await' expression")),
        _ => error,
    }
}

/// What a step is to who calls a method instead of a slot.
fn as_result(step: Step<'_>) -> PyResult<Bound<'_, PyAny>> {
    match step {
        Step::Yielded(yielded) => Ok(yielded),
        Step::Returned(value) => Err(stop_iteration::with_value(value)),
        Step::Raised(exception) => Err(exception.into()),
    }
}

#[pymethods]
impl Coroutine {
    /// For who calls it; the interpreter's `await` takes the slot.
    fn __await__(slf: Py<Self>) -> CoroutineWrapper {
        CoroutineWrapper::new(slf)
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        as_result(Self::advance(slf))
    }

    /// Resumes the coroutine; only None can be sent to one that has not begun.
    fn send<'py>(slf: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if !value.is_none() && Self::is_created(slf) {
            return Err(not_begun());
        }
        as_result(Self::advance(slf))
    }

    /// Raises an exception where the coroutine waits.
    #[pyo3(signature = (*arguments))]
    fn throw<'py>(&self, arguments: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        as_result(self.drive(arguments.py(), Some(thrown(arguments)?)))
    }

    /// Ends the coroutine by raising GeneratorExit where it waits.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if matches!(self.stage.get(py), Stage::Created | Stage::Finished) {
            self.finish(py);
            return Ok(());
        }
        let exit = py.get_type::<PyGeneratorExit>().call0()?;
        match self.drive(py, Some(exit)) {
            Step::Returned(_) => Ok(()),
            Step::Yielded(_) => Err(PyRuntimeError::new_err("coroutine ignored GeneratorExit")),
            Step::Raised(exception) => {
                let is_end =
                    exception.is_instance_of::<PyGeneratorExit>() || exception.is_instance_of::<PyStopIteration>();
                if is_end { Ok(()) } else { Err(exception.into()) }
            }
        }
    }

    /// The interpreter's own class of coroutines, so that `isinstance` and `inspect.iscoroutine` say yes.
    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        crate::asyncio::native_coroutine_class(slf.py()).cloned()
    }

    #[getter]
    fn __name__(&self, py: Python<'_>) -> &'static str {
        let name = self.name.get(py);
        name.rsplit('.').next().unwrap_or(name)
    }

    #[getter]
    fn __qualname__(&self, py: Python<'_>) -> &'static str {
        self.name.get(py)
    }

    /// What the coroutine waits for.
    #[getter]
    fn cr_await(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.awaited.with(py, |awaited| match awaited {
            Some(Awaited::Future(future)) => Some(future.clone_ref(py).into_any()),
            Some(Awaited::Iterator(iterator)) => Some(iterator.clone_ref(py)),
            Some(Awaited::Turn) | None => None,
        })
    }

    #[getter]
    fn cr_running(&self, py: Python<'_>) -> bool {
        self.is_in(py, Stage::Running)
    }

    #[getter]
    fn cr_suspended(&self, py: Python<'_>) -> bool {
        self.is_in(py, Stage::Suspended)
    }

    /// None: the body has no Python frame.
    #[getter]
    fn cr_frame(&self) -> Option<bool> {
        None
    }

    /// None: where the coroutine was made is not remembered.
    #[getter]
    fn cr_origin(&self) -> Option<bool> {
        None
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        format!("<coroutine object {} at {:p}>", slf.get().name.get(slf.py()), slf.as_ptr())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.awaited.traverse(visit, |awaited, visit| match awaited {
            Some(awaited) => awaited.traverse(visit),
            None => Ok(()),
        })?;
        self.body.traverse(visit, |body, visit| match body {
            Some(body) => body.traverse(visit),
            None => Ok(()),
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        slf.get().finish(slf.py());
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
