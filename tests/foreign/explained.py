"""What fails only with us, and why: test names, as ``fnmatch`` takes them, and the cause in a line."""

from __future__ import annotations

from fnmatch import fnmatchcase

#: The router does what it is there for, and the test says otherwise.
_ALIAS = "asserts that a read's alias is `default`; it was answered by the replica"
_CACHED_PER_ALIAS = "counts queries; Django caches content types per alias, so the replica is asked for one more"
_WRITES_EVERYWHERE = "creates rows on every alias there is or that it lists; a replica refuses"
_LISTS = "looks at the `databases` of a test class, to which this run adds the replica"

#: Right to: the suites have no middleware of ours, and this run exempts nothing.
_CHECKS = "compares all messages of `check`; ours on the missing middleware (W003, W005) are among them"

_WRAPPERS = "looks at the execute wrappers of one alias; ours is among them, and reads are the replica's"

#: Seen without us too, with a pause of 1.2 s in that place of the test.
_BUSY = "fails wherever two of its statements are a second apart, as on a busy machine"

_TOOLBAR = "tests.panels.test_sql.SQLPanel"
EXPLAINED: dict[str, dict[str, str]] = {
    "django-debug-toolbar": {
        f"{_TOOLBAR}TestCase.test_*cursor_wrapper_*": "compares the exact class of a cursor; ours is derived from it",
        f"{_TOOLBAR}TestCase.test_disable_stacktraces": _ALIAS,
        f"{_TOOLBAR}TestCase.test_recording*": _ALIAS,
        f"{_TOOLBAR}TestCase.test_regression_infinite_recursion": _ALIAS,
        f"{_TOOLBAR}MultiDBTestCase.test_aliases": _ALIAS,
        "tests.test_checks.ChecksTestCase.*": _CHECKS,
    },
    "django-celery-beat": {
        "t/unit/test_schedulers.py::test_DatabaseScheduler::test_starttime_trigger": _BUSY,
    },
    "wagtail": {
        "wagtail.tests.test_reference_index.TestBulkFetch.test_*_in_bulk_with_list_of_mixed_*": _CACHED_PER_ALIAS,
    },
    "django": {
        "basic.tests.ModelRefreshTests.test_refresh_unsaved": _ALIAS,
        "multiple_database.tests.QueryTestCase.test_db_selection": _ALIAS,
        "multiple_database.tests.PickleQuerySetTestCase.test_pickling": _WRITES_EVERYWHERE,
        "prefetch_related.tests.GenericRelationTests.test_charfield_GFK": _CACHED_PER_ALIAS,
        "prefetch_related.tests.GenericRelationTests.test_nullable_GFK": _CACHED_PER_ALIAS,
        "prefetch_related.tests.CustomPrefetchTests.test_generic_rel": _CACHED_PER_ALIAS,
        "prefetch_related.tests.CustomPrefetchTests.test_m2m_through_gfk": _CACHED_PER_ALIAS,
        "contenttypes_tests.test_fields.DeferredGenericRelationTests.test_defer_not_*": _CACHED_PER_ALIAS,
        "test_utils.tests.DatabaseAliasTests.*": _LISTS,
        "test_runner.test_discover_runner.DiscoverRunnerGetDatabasesTests.*": _LISTS,
        "test_runner.tests.TestRunnerInitializerTests.*": _LISTS,
        "setUpClass (admin_views.test_multidb.MultiDatabaseTests)": _WRITES_EVERYWHERE,
        "setUpClass (auth_tests.test_admin_multidb.MultiDatabaseTests)": _WRITES_EVERYWHERE,
        "backends.base.test_base.ExecuteWrapperTests.test_wrapper_connection_specific": _WRAPPERS,
        "backends.base.test_base.ExecuteWrapperTests.test_wrapper_debug": _WRAPPERS,
        "backends.base.test_base.MultiDatabaseTests.*": "counts what happens on one connection; a mirror shares it",
        "check_framework.test_model_checks.ConstraintNameTests.test_*collision_across_apps*": _CHECKS,
        "serializers.test_deserialization.TestDeserializer.*_performance *": "measures time, touches no database",
        "timezones.tests.NewDatabaseTests.test_query_convert_timezones": "changes TIME_ZONE of `default` alone",
    },
}
EXPLAINED["django-core"] = EXPLAINED["django"]


def cause(suite: str, test: str) -> str | None:
    """Why a test of a suite fails with us; None if nobody has found out."""
    for pattern, why in EXPLAINED.get(suite, {}).items():
        if fnmatchcase(test, pattern):
            return why
    return None
