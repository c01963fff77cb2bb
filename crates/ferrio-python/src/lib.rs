//! The extension module `ferrio._ferrio`: asyncio's objects on ferrio's engine.

use pyo3::prelude::*;

#[pymodule(gil_used = true)]
mod _ferrio {}
