//! The extension module `replicant._core`: the only room that knows the interpreter. This file only lists names.

mod causality;
mod cipher;
mod clock;
mod configure;
mod connection_lookup;
mod errors;
mod explain;
mod ffi;
mod model_cache;
mod observations;
mod position;
mod promotion;
mod reads;
mod reports;
mod reroute;
mod router;
mod scope_states;
mod scopes;
mod sessions;
mod sql;
mod steps;
mod table;
mod thread;
mod transactions;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use super::causality::{
        causality, draw_member, has_written, oldest_age, owes_token, pending_primaries, position_received, require,
    };
    #[pymodule_export]
    use super::cipher::Cipher;
    #[pymodule_export]
    use super::configure::{after_fork, configure, generation, invalidate, role, seed, set_state, unwatch, watch};
    #[pymodule_export]
    use super::connection_lookup::{opened_beside_a_loop, session_changed, text_transaction};
    #[pymodule_export]
    use super::explain::{explain, snapshot, take_decision};
    #[pymodule_export]
    use super::ffi::mysql_client::{load_mysql_client, mysql_session_state};
    #[pymodule_export]
    use super::observations::{is_behind, observe, server, session_generation};
    #[pymodule_export]
    use super::position::Position;
    #[pymodule_export]
    use super::promotion::servers_swapped;
    #[pymodule_export]
    use super::reads::{is_to_remember, remember, run_command};
    #[pymodule_export]
    use super::reports::{report, report_probes};
    #[pymodule_export]
    use super::reroute::{member_state, pinned_answer, reroute, spend_decision};
    #[pymodule_export]
    use super::router::ReplicaRouter;
    #[pymodule_export]
    use super::scope_states::OpenSnapshot;
    #[pymodule_export]
    use super::scopes::{Record, Scope, ScopeNode, record};
    #[pymodule_export]
    use super::sessions::session_serves;
    #[pymodule_export]
    use super::sql::{analyse, keeps_ascii_apart, names_one_table, refusal, session_changes, target_table, verb};
    #[pymodule_export]
    use super::transactions::{changed_session, in_transaction, public_lookup};

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        super::ffi::interpreter::claim(py)?;
        module.add("scope_variable", super::scopes::scope_variable(py)?.object(py))?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("optimised", !cfg!(debug_assertions))?;
        super::sql::add_flags(module)
    }
}
