//! What a MySQL or MariaDB server reported of a session in its last answer, read from mysqlclient without a query.
//!
//! The client library keeps what an OK packet reported (the GTID of a commit, a variable that has changed) until the
//! next one, and mysqlclient has no method for it. mysqlclient does expose its `MYSQL*`, and the library's public
//! functions are found through the extension's own handle, whichever library it was linked with, libmysqlclient or
//! libmariadb. No structure of theirs is read. Python's ctypes can do the same in ten times the time (3 to 5 us), and
//! this runs at every commit.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::ptr::null;
use std::slice::from_raw_parts;

use once_cell::sync::OnceCell;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{ffi, intern};

/// `enum enum_session_state_type` of both libraries' public headers.
const SYSTEM_VARIABLES: c_int = 0;
const GTIDS: c_int = 3;

type Number = unsafe extern "C" fn(*mut c_void) -> c_uint;
/// `my_bool` is a `char` in libmariadb and a `bool` in libmysqlclient: either way one byte.
type Flag = unsafe extern "C" fn(*mut c_void) -> u8;
type Item = unsafe extern "C" fn(*mut c_void, c_int, *mut *const c_char, *mut usize) -> c_int;

/// The functions of the client library behind mysqlclient, all of them public.
#[derive(Clone, Copy)]
struct Library {
    errno: Number,
    field_count: Number,
    more_results: Flag,
    first: Item,
    next: Item,
}

static LIBRARY: OnceCell<Library> = OnceCell::new();

/// Finds the client library's functions through the extension at `path`, which must be loaded. Returns whether all of
/// them exist and may be called: never while the GIL is off, since the library takes no lock of its own.
#[pyfunction]
pub fn load_mysql_client(py: Python<'_>, path: &str) -> PyResult<bool> {
    Ok(has_gil(py)? && LIBRARY.get_or_try_init(|| find(path).ok_or(())).is_ok())
}

/// Whether this interpreter runs with its GIL. A build without one turns it on when it imports an extension that does not
/// say that it can do without (mysqlclient 2.3 does not), and never off again.
fn has_gil(py: Python<'_>) -> PyResult<bool> {
    match py.import("sys")?.getattr_opt("_is_gil_enabled")? {
        Some(is_enabled) => is_enabled.call0()?.is_truthy(),
        None => Ok(true),
    }
}

#[cfg(unix)]
fn find(path: &str) -> Option<Library> {
    use std::mem::transmute;

    let path = CString::new(path).ok()?;
    // SAFETY: a terminated string. Nothing is loaded and no initialiser runs (NOLOAD): NULL if it is not there already.
    // The handle is never closed, and CPython never unloads an extension, so what is found in it stays.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    if handle.is_null() {
        return None;
    }
    let symbol = |name: &std::ffi::CStr| {
        // SAFETY: a handle from dlopen and a terminated name; NULL where neither the extension nor what it was linked
        // with has it.
        let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
        (!address.is_null()).then_some(address)
    };
    // SAFETY: these names have had these signatures in the public headers of libmysqlclient since 5.7 and of libmariadb
    // since 3.0; a function's address is as wide as a pointer wherever dlsym exists.
    unsafe {
        Some(Library {
            errno: transmute::<*mut c_void, Number>(symbol(c"mysql_errno")?),
            field_count: transmute::<*mut c_void, Number>(symbol(c"mysql_field_count")?),
            more_results: transmute::<*mut c_void, Flag>(symbol(c"mysql_more_results")?),
            first: transmute::<*mut c_void, Item>(symbol(c"mysql_session_track_get_first")?),
            next: transmute::<*mut c_void, Item>(symbol(c"mysql_session_track_get_next")?),
        })
    }
}

#[cfg(not(unix))]
fn find(_path: &str) -> Option<Library> {
    None
}

/// The report of the last answer on mysqlclient's `connection`: the GTIDs of what it committed (`variable` is None), or
/// the new value of a variable that the session tracks. Empty if it reported nothing; None if that cannot be told.
///
/// Raises what the driver raises if the connection is closed, and `RuntimeError` if `load_mysql_client` did not succeed.
#[pyfunction]
#[pyo3(signature = (connection, variable=None))]
pub fn mysql_session_state<'py>(
    connection: &Bound<'py, PyAny>,
    variable: Option<&[u8]>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let py = connection.py();
    let library = *LIBRARY.get().ok_or_else(|| PyRuntimeError::new_err("no client library was loaded"))?;
    // Fetched anew every time: the driver refuses when the connection has been closed and the library has freed its
    // memory.
    let capsule = connection.call_method0(intern!(py, "_get_native_connection"))?;
    // SAFETY: any object may be asked for; unless it is a capsule of this very name the answer is NULL with an error set.
    let mysql = unsafe { ffi::PyCapsule_GetPointer(capsule.as_ptr(), c"_mysql.connection.native_connection".as_ptr()) };
    if mysql.is_null() {
        return Err(PyErr::fetch(py));
    }
    // SAFETY: the driver has just handed it out for an open connection that `connection` keeps alive. No other thread is
    // in the library with it or closes it: that takes the GIL, which is on (`load_mysql_client`) and which this thread
    // holds until it returns; a statement that runs meanwhile without the GIL would be one of another thread on the same
    // connection, which the library and the driver forbid.
    unsafe {
        // An error, a result set and the first of several answers do not end in an OK packet that has been read: the
        // library may still hold the report of an earlier one.
        if (library.errno)(mysql) != 0 || (library.field_count)(mysql) != 0 || (library.more_results)(mysql) != 0 {
            return Ok(None);
        }
    }
    let state = State { library, mysql, kind: if variable.is_some() { SYSTEM_VARIABLES } else { GTIDS } };
    let value = match variable {
        None => state.first(),
        Some(name) => state.variable(name),
    };
    Ok(Some(PyBytes::new(py, value.unwrap_or_default())))
}

/// The items of one kind that the library holds.
struct State {
    library: Library,
    mysql: *mut c_void,
    kind: c_int,
}

impl State {
    fn first(&self) -> Option<&[u8]> {
        self.item(self.library.first)
    }

    /// Names and values alternate.
    fn variable(&self, name: &[u8]) -> Option<&[u8]> {
        let mut item = self.first();
        while let Some(found) = item {
            let value = self.item(self.library.next)?;
            if found == name {
                return Some(value);
            }
            item = self.item(self.library.next);
        }
        None
    }

    fn item(&self, function: Item) -> Option<&[u8]> {
        let (mut data, mut length) = (null(), 0);
        // SAFETY: an open connection (see `mysql_session_state`), a kind that both libraries have, and two places to
        // write to. If the answer is 0, the data points to memory that the library keeps until the connection's next
        // answer, which cannot be fetched before this call returns to Python.
        unsafe {
            if function(self.mysql, self.kind, &raw mut data, &raw mut length) != 0 || data.is_null() {
                return None;
            }
            Some(from_raw_parts(data.cast(), length))
        }
    }
}
