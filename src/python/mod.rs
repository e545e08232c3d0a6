//! The Python face: `replicant._core`. Only names here; the only room that knows the interpreter.

mod attached;
mod attribute;
mod cipher;
mod configure;
mod context;
mod driver;
mod elsewhere;
mod entry;
mod errors;
mod explain;
mod health;
mod interpreter;
mod model;
mod position;
mod reads;
mod router;
mod scopes;
mod session;
mod state;
mod statements;
mod transactions;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use super::cipher::Cipher;
    #[pymodule_export]
    use super::configure::{after_fork, configure, generation, invalidate, role, seed, set_state, unwatch, watch};
    #[pymodule_export]
    use super::driver::{load_mysql_client, mysql_session_state};
    #[pymodule_export]
    use super::elsewhere::{elsewhere, member_state, pinned_answer, spend_decision};
    #[pymodule_export]
    use super::explain::{explain, snapshot, take_decision};
    #[pymodule_export]
    use super::health::{moved, probed, report};
    #[pymodule_export]
    use super::position::Position;
    #[pymodule_export]
    use super::reads::{is_to_remember, remember, run_command};
    #[pymodule_export]
    use super::router::ReplicaRouter;
    #[pymodule_export]
    use super::scopes::{OpenSnapshot, Record, Scope, ScopeNode, record};
    #[pymodule_export]
    use super::session::{
        asked, causality, draw_member, has_written, is_behind, observe, oldest_age, owes_token, require, server,
        session_generation, session_serves, unasked,
    };
    #[pymodule_export]
    use super::statements::{
        analyse, keeps_ascii_apart, names_one_table, refusal, session_changes, target_table, verb,
    };
    #[pymodule_export]
    use super::transactions::{
        changed_session, in_transaction, opened_beside_a_loop, public_lookup, session_changed, text_transaction,
    };

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        super::interpreter::claim(py)?;
        module.add("scope_variable", super::scopes::scope_variable(py)?.object(py))?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("optimised", !cfg!(debug_assertions))?;
        super::statements::add_flags(module)
    }
}
