"""The suites: which release, how its authors start it, and what of it concerns databases."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Suite:
    """One suite on one engine."""

    name: str
    #: The distribution, and its pinned release.
    distribution: str
    version: str
    #: What is run inside of the unpacked source distribution: "pytest" or "django", its arguments, and which tests.
    runner: str
    arguments: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    #: Where in the source distribution it is run.
    folder: str = "."
    #: The settings module of the suite; None where its tests configure settings themselves.
    settings: str | None = None
    database: str = "SQLite"
    #: The names of the databases to be made on the server, by alias.
    databases: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.name}-{self.database.lower()}"


#: What of Django's own suite is most about databases: a few minutes. All of it takes an hour on a busy machine.
CORE = """
async backends basic bulk_create contenttypes_tests defer fixtures generic_relations get_or_create many_to_many
model_forms multiple_database prefetch_related queries raw_query select_for_update sessions_tests transaction_hooks
transactions
"""

#: What of wagtail's suite is most about databases: its models, and its admin where it changes pages.
WAGTAIL = """
wagtail.admin.tests.pages.test_convert_alias wagtail.admin.tests.pages.test_copy_page
wagtail.admin.tests.pages.test_delete_page wagtail.admin.tests.pages.test_edit_page
wagtail.admin.tests.pages.test_explorer_view wagtail.admin.tests.pages.test_move_page
wagtail.admin.tests.pages.test_page_locking wagtail.admin.tests.pages.test_page_search
wagtail.admin.tests.pages.test_preview wagtail.admin.tests.pages.test_reorder_page
wagtail.admin.tests.pages.test_revisions wagtail.admin.tests.pages.test_unpublish_page
wagtail.tests.actions wagtail.tests.permission_policies wagtail.tests.test_audit_log
wagtail.tests.test_collection_model wagtail.tests.test_draft_model wagtail.tests.test_locale_model
wagtail.tests.test_lockable_model wagtail.tests.test_management_commands wagtail.tests.test_page_model
wagtail.tests.test_page_permissions wagtail.tests.test_page_privacy wagtail.tests.test_page_queryset
wagtail.tests.test_page_search wagtail.tests.test_reference_index wagtail.tests.test_revision_model
wagtail.tests.test_sites wagtail.tests.test_translatablemixin wagtail.tests.test_workflow
wagtail.tests.test_workflow_model
"""


def _django(name: str, database: str, tests: list[str]) -> Suite:
    return Suite(
        name,
        "django",
        "5.2.19",
        "django",
        # Copies of a MySQL database for parallel processes take a client that is not among the servers' files.
        arguments=("runtests.py", "--parallel", "2" if database == "SQLite" else "1"),
        tests=tuple(tests),
        folder="tests",
        settings="test_sqlite",
        database=database,
        databases={} if database == "SQLite" else {"default": "django", "other": "django_other"},
    )


SUITES = (
    Suite(
        "djangorestframework",
        "djangorestframework",
        "3.18.3",
        "pytest",
        # Its own options are a table that only pytest 9 reads, which cannot run django-celery-beat.
        arguments=("-c", "/dev/null", "--rootdir", ".", "--no-migrations"),
        tests=("tests",),
    ),
    Suite(
        "django-celery-beat",
        "django-celery-beat",
        "2.9.0",
        "pytest",
        settings="t.proj.settings",
        tests=("t/unit",),
    ),
    Suite(
        "django-oauth-toolkit",
        "django-oauth-toolkit",
        "3.4.1",
        "pytest",
        # Its own options ask for processes of which each would want a database.
        arguments=("-c", "/dev/null", "--rootdir", ".", "-p", "tests.fixtures"),
        tests=("tests",),
        settings="tests.settings",
    ),
    Suite(
        "django-debug-toolbar",
        "django-debug-toolbar",
        "8.0.0",
        "django",
        arguments=("-m", "django", "test"),
        tests=("tests",),
        settings="tests.settings",
    ),
    _django("django-core", "SQLite", CORE.split()),
    _django("django-core", "MySQL", CORE.split()),
    Suite(
        "wagtail",
        "wagtail",
        "8.0.1",
        "django",
        arguments=("-m", "django", "test", "--parallel", "2"),
        tests=tuple(WAGTAIL.split()),
        settings="wagtail.test.settings",
        environment={"DATABASE_NAME": ":memory:"},
    ),
    _django("django", "SQLite", []),
    _django("django", "MySQL", []),
)
