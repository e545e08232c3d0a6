//! Settings that do not change the meaning of a read.

use crate::sql::dialect::Dialect;

/// Whether a setting concerns only transactions or the log of a connection, so that a session with it serves like any
/// other.
pub fn is_no_state(name: &str, dialect: Dialect) -> bool {
    const MYSQL: [&str; 12] = [
        "autocommit",
        // Django and its management commands switch them off and on again.
        "foreign_key_checks",
        "unique_checks",
        "check_constraint_checks",
        "transaction_isolation",
        "tx_isolation",
        "transaction_read_only",
        "tx_read_only",
        "session_track_gtids",
        "session_track_system_variables",
        "session_track_schema",
        "session_track_transaction_info",
    ];
    const POSTGRESQL: [&str; 6] = [
        "transaction_isolation",
        "transaction_read_only",
        "transaction_deferrable",
        "default_transaction_isolation",
        "default_transaction_read_only",
        "default_transaction_deferrable",
    ];
    // Those of schema changes and of `loaddata`, those that ask something of the table that they are given, and those that
    // set something in the database's file.
    const SQLITE: [&str; 23] = [
        "foreign_keys",
        "legacy_alter_table",
        "defer_foreign_keys",
        "query_only",
        "application_id",
        "auto_vacuum",
        "encoding",
        "foreign_key_check",
        "foreign_key_list",
        "function_list",
        "incremental_vacuum",
        "index_info",
        "index_list",
        "index_xinfo",
        "integrity_check",
        "optimize",
        "page_size",
        "quick_check",
        "schema_version",
        "table_info",
        "table_list",
        "table_xinfo",
        "user_version",
    ];
    match dialect {
        Dialect::MySql | Dialect::MariaDb => MYSQL.contains(&name),
        Dialect::PostgreSql => POSTGRESQL.contains(&name),
        Dialect::Sqlite => SQLITE.contains(&name),
        Dialect::Other => false,
    }
}

/// Whether a setting changes how long a read takes, or how it is planned or logged, and never its result.
#[expect(clippy::too_many_lines, reason = "lists of names, one to a line")]
pub fn is_harmless(name: &str, dialect: Dialect) -> bool {
    const MYSQL: [&str; 34] = [
        "big_tables",
        "bulk_insert_buffer_size",
        "completion_type",
        "eq_range_index_dive_limit",
        "gtid_domain_id",
        "gtid_next",
        "gtid_seq_no",
        "innodb_lock_wait_timeout",
        "interactive_timeout",
        "join_buffer_size",
        "lock_wait_timeout",
        "long_query_time",
        "low_priority_updates",
        "max_execution_time",
        "max_heap_table_size",
        "max_statement_time",
        "min_examined_row_limit",
        "net_read_timeout",
        "net_retry_count",
        "net_write_timeout",
        "optimizer_prune_level",
        "optimizer_search_depth",
        "optimizer_switch",
        "profiling",
        "profiling_history_size",
        "query_cache_type",
        "range_alloc_block_size",
        "read_buffer_size",
        "read_rnd_buffer_size",
        "sort_buffer_size",
        "sql_log_bin",
        "sql_safe_updates",
        "tmp_table_size",
        "wait_timeout",
    ];
    const POSTGRESQL: [&str; 33] = [
        "application_name",
        "backend_flush_after",
        "check_function_bodies",
        "client_connection_check_interval",
        "client_min_messages",
        "commit_delay",
        "commit_siblings",
        "constraint_exclusion",
        "cursor_tuple_fraction",
        "deadlock_timeout",
        "default_statistics_target",
        "default_tablespace",
        "effective_cache_size",
        "effective_io_concurrency",
        "from_collapse_limit",
        "hash_mem_multiplier",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "join_collapse_limit",
        "lock_timeout",
        "logical_decoding_work_mem",
        "maintenance_io_concurrency",
        "maintenance_work_mem",
        "plan_cache_mode",
        "random_page_cost",
        "seq_page_cost",
        "session_replication_role",
        "statement_timeout",
        "synchronous_commit",
        "temp_buffers",
        "temp_tablespaces",
        "transaction_timeout",
        "work_mem",
    ];
    // The planner's and the log's.
    const FAMILIES: [&str; 11] = [
        "cpu_",
        "debug_",
        "enable_",
        "geqo",
        "jit",
        "log_",
        "max_parallel_",
        "min_parallel_",
        "parallel_",
        "track_",
        "vacuum_",
    ];
    const SQLITE: [&str; 16] = [
        "analysis_limit",
        "automatic_index",
        "busy_timeout",
        "cache_size",
        "cache_spill",
        "journal_mode",
        "journal_size_limit",
        "locking_mode",
        "mmap_size",
        "recursive_triggers",
        "soft_heap_limit",
        "synchronous",
        "temp_store",
        "threads",
        "wal_autocheckpoint",
        "wal_checkpoint",
    ];
    match dialect {
        Dialect::MySql | Dialect::MariaDb => MYSQL.contains(&name),
        Dialect::PostgreSql => POSTGRESQL.contains(&name) || FAMILIES.iter().any(|family| name.starts_with(family)),
        Dialect::Sqlite => SQLITE.contains(&name),
        Dialect::Other => false,
    }
}
