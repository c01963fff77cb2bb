//! How locks show themselves.

use pyo3::intern;
use pyo3::prelude::*;

/// What `object.__repr__` says of any object, and what is to be said of this one:
/// `<ferrio.Lock object at 0x... [locked]>`.
pub(super) fn describe(object: &Bound<'_, PyAny>, state: &str, waiters: usize) -> PyResult<String> {
    let plain = object.py().get_type::<PyAny>().call_method1(intern!(object.py(), "__repr__"), (object,))?;
    let plain = plain.to_string();
    let plain = plain.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(&plain);
    Ok(match waiters {
        0 => format!("<{plain} [{state}]>"),
        count => format!("<{plain} [{state}, waiters:{count}]>"),
    })
}
