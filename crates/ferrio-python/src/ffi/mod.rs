//! The only room with raw CPython calls.
//!
//! Each file wraps one thing that the interpreter's C interface does and that PyO3 has no safe, or no fast, name for.
//! What leaves this room is safe to call; what a function may run (any Python code, or none) is said beside it, because
//! no borrow may be held across the first kind.
//!
//! | file | wraps |
//! |---|---|
//! | [`cell`] | interior mutability under the interpreter lock |
//! | [`runnable`] | Python objects in the engine's ready queue |
//! | [`context`] | entering and leaving a `contextvars.Context` |
//! | [`snapshot`] | what a context holds, shared by callbacks until they run |
//! | [`coroutine`] | `send` and `throw` on a coroutine without a method call |
//! | [`await_method`] | an `__await__` that differs by who calls it |
//! | [`call`] | vectorcalls without argument tuples |
//! | [`await_slots`] | `await` without trampolines |
//! | [`send_slots`] | the slots by which a coroutine is driven |
//! | [`async_function`] | `async def` functions whose body is Rust |
//! | [`interpreter`] | which interpreter of the process this is |
//! | [`method`] | methods without an argument parser |
//! | [`openssl`] | the TLS library of the interpreter, without Python objects |
//! | [`nested`] | objects that go with the last object that had them |
//! | [`newborn`] | the collector kept from objects that are not there yet |
//! | [`number`] | an `int` as a float without a call |
//! | [`own_attributes`] | what a program has given to an object |
//! | [`pool`] | allocation and destruction of the classes that every callback uses |
//! | [`raise`] | an error with what is being handled as its context |
//! | [`refcount`] | how many references an object has |
//! | [`handled`] | the exception that is being handled |
//! | [`recursion`] | recursion that the interpreter counts |
//! | [`bytes`] | a `bytes` object that the operating system writes into |
//! | [`buffer`] | the bytes of any object that has some |
//! | [`descriptor`] | descriptors that are known by their number |
//! | [`finalizer`] | `tp_finalize`, which PyO3 does not offer |
//! | [`staying`] | threads that stay where they are when the interpreter ends them |
//! | [`stop_iteration`] | a result as `StopIteration`, and back |
//! | [`thread`] | waiting without the interpreter lock |

pub(crate) mod async_function;
pub(crate) mod await_method;
pub(crate) mod await_slots;
pub(crate) mod buffer;
pub(crate) mod bytes;
pub(crate) mod call;
pub(crate) mod cell;
pub(crate) mod context;
pub(crate) mod coroutine;
pub(crate) mod descriptor;
pub(crate) mod finalizer;
pub(crate) mod handled;
pub(crate) mod interpreter;
pub(crate) mod method;
pub(crate) mod nested;
pub(crate) mod newborn;
pub(crate) mod number;
pub(crate) mod openssl;
pub(crate) mod own_attributes;
pub(crate) mod pool;
pub(crate) mod raise;
pub(crate) mod recursion;
pub(crate) mod refcount;
pub(crate) mod runnable;
pub(crate) mod send_slots;
pub(crate) mod snapshot;
pub(crate) mod staying;
pub(crate) mod stop_iteration;
pub(crate) mod thread;
