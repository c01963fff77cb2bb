//! Child processes with streams.
//!
//! | file | what |
//! |---|---|
//! | [`create`] | `create_subprocess_exec` and `create_subprocess_shell` |
//! | [`process`] | `Process` |
//! | [`protocol`] | `SubprocessStreamProtocol`: from the process's pipes to readers |
//!
//! The loop's transport is called by its methods, whoever's it is: beside the making of a process that costs nothing.

mod create;
mod process;
mod protocol;

use pyo3::prelude::*;

use crate::classes;
use crate::ffi::async_function::{self, install};

/// Adds the classes and functions to the module.
pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    classes::add::<protocol::SubprocessStreamProtocol>(module)?;
    classes::add::<process::Process>(module)?;
    let class = &py.get_type::<process::Process>();
    install::<process::ProcessWait>(class)?;
    install::<process::ProcessFeedStdin>(class)?;
    install::<process::ProcessReadStream>(class)?;
    install::<process::ProcessCommunicate>(class)?;
    module.add("create_subprocess_exec", async_function::make::<create::CreateSubprocessExec>(py)?)?;
    module.add("create_subprocess_shell", async_function::make::<create::CreateSubprocessShell>(py)?)
}
