"""Every method of Django, of a driver and of another package that this package replaces or relies on.

:data:`PATCHES` is the complete list. A method is patched only if no signal, no setting and no class of this package can
do the same. ``tests/patches/test_patch_list.py`` compares each signature with the installed one.
"""

from __future__ import annotations

import os
import threading
from typing import NamedTuple


class Patch(NamedTuple):
    """One method that is replaced, and why."""

    target: str
    """The module, the class and the method, ``module:Class.method``."""
    parameters: str
    """The names of the parameters with which the replacement calls the method."""
    where: str
    """The module of this package that replaces the method."""
    purpose: str
    """The failure that would happen without the patch."""
    since: str = ""
    """The first version that has the method; empty if every supported version has it."""
    before: str = ""
    """The first version that no longer has the method."""
    ticket: str = ""
    """The ticket of the project, or the missing feature, that would make the patch unnecessary."""


#: Classes and modules of Django.
DJANGO = (
    Patch(
        "django.db.backends.base.base:BaseDatabaseWrapper.connect",
        "self",
        "replicant.patches.connections",
        "Statements of connection_created receivers would count as changes of the session, and pin reads.",
        ticket="a signal that is sent after all receivers of connection_created",
    ),
    Patch(
        "django.db.models.base:Model.save_base",
        "self, raw, force_insert, force_update, using, update_fields",
        "replicant.patches.partial_save",
        "A save of a row that was partly loaded from a replica would overwrite the other fields with older values.",
        ticket="a hook for the comparison of Model._state.db with using in Model.save()",
    ),
    Patch(
        "django.db.models.query:QuerySet.get_or_create",
        "self, defaults, kwargs",
        "replicant.patches.found_rows",
        "A row that get_or_create() found on the primary could be missing in the next read of a replica.",
        ticket="a hint for db_for_write() that says which query it is for",
    ),
    Patch(
        "django.db.models.query:QuerySet.select_for_update",
        "self, nowait, skip_locked, of, no_key",
        "replicant.patches.found_rows",
        "On SQLite, where the statement has no FOR UPDATE, the row could be missing in the next read of a replica.",
        ticket="a hint for db_for_write() that says which query it is for",
    ),
    Patch(
        "django.db.models.query:QuerySet.delete",
        "self",
        "replicant.patches.found_rows",
        "The next read of a replica could show a row that a deletion did not find.",
        ticket="a hint for db_for_write() that says which query it is for",
    ),
    Patch(
        "django.db.models.deletion:Collector.collect",
        "self, objs, source, nullable, collect_related, source_attr, reverse_dependency, keep_parents, "
        "fail_on_restricted",
        "replicant.patches.found_rows",
        "Rows that forbid a deletion could be missing in the next read of a replica.",
        ticket="a hint for db_for_write() that says which query it is for",
    ),
    Patch(
        "django.db.models.query:QuerySet.raw",
        "self, raw_query, params, translations, using",
        "replicant.patches.raw_queries",
        "A raw query would read from the replica that was chosen when it was built, before a write of the scope.",
        ticket="RawQuerySet.db that is decided at execution, as that of QuerySet is",
    ),
    Patch(
        "django.db.models.query:RawQuerySet.iterator",
        "self",
        "replicant.patches.raw_queries",
        "The alias of a raw query could not be chosen at its execution.",
        ticket="RawQuerySet.db that is decided at execution, as that of QuerySet is",
    ),
    Patch(
        "django.core.management.commands.migrate:Command.handle",
        "args, kwargs",
        "replicant.patches.commands",
        "RunPython operations of a migration would read from replicas that lack the new tables.",
        ticket="a post_migrate signal that is also sent after a failure",
    ),
    Patch(
        "django.core.management.base:BaseCommand.execute",
        "self, args, options",
        "replicant.patches.commands",
        "A command could read a row, and then miss it on another replica.",
        ticket="signals at the beginning and the end of a command",
    ),
    Patch(
        "django.db.models.base:Model._get_next_or_previous_by_FIELD",
        "self, field, is_next, kwargs",
        "replicant.patches.instances",
        "get_next_by_FOO() of an instance from a replica would read that replica after a write.",
        ticket="reads of related rows that call the router with the hint instance",
    ),
    Patch(
        "django.forms.models:BaseModelFormSet.add_fields",
        "self, form, index",
        "replicant.patches.instances",
        "A formset would read the row that a form names from the replica that its instance came from.",
        ticket="reads of related rows that call the router with the hint instance",
    ),
    Patch(
        "django.db.models.query_utils:DeferredAttribute.fetch_many",
        "self, instances",
        "replicant.patches.instances",
        "A deferred field of several rows would be read from the replica that they came from, after a write.",
        since="6.1",
        ticket="reads of related rows that call the router with the hint instance",
    ),
    Patch(
        "django.contrib.contenttypes.fields:GenericForeignKey.get_content_type",
        "self, obj, id, using, model",
        "replicant.patches.instances",
        "A content type that a replica lacks would be created on that replica.",
        ticket="reads of related rows that call the router with the hint instance",
    ),
    Patch(
        "django.contrib.contenttypes.fields:GenericForeignKey.__get__",
        "self, instance, cls",
        "replicant.patches.instances",
        "The target of a generic foreign key would be read from the replica of its instance, after a write.",
        before="6.1",
        ticket="reads of related rows that call the router with the hint instance",
    ),
    Patch(
        "django.contrib.contenttypes.fields:GenericForeignKeyDescriptor.__get__",
        "self, instance, cls",
        "replicant.patches.instances",
        "The target of a generic foreign key would be read from the replica of its instance, after a write.",
        since="6.1",
        ticket="reads of related rows that call the router with the hint instance",
    ),
    Patch(
        "django.db.models.fields.related_descriptors:create_reverse_many_to_one_manager",
        "superclass, rel",
        "replicant.patches.related_managers",
        "author.books.add(book) would refuse a book that was loaded from a replica.",
        ticket="a comparison of aliases that calls the router's allow_relation()",
    ),
    Patch(
        "django.db.models.fields.related_descriptors:create_forward_many_to_many_manager",
        "superclass, rel, reverse",
        "replicant.patches.related_managers",
        "After item.tags.set(tags) that changed nothing, the next read of a replica could lack these tags.",
        ticket="a hint for db_for_write() that says which query it is for",
    ),
    Patch(
        "django.contrib.contenttypes.fields:create_generic_related_manager",
        "superclass, rel",
        "replicant.patches.related_managers",
        "update() and delete() of a generic relation would be sent to the replica of its instance.",
        ticket="https://code.djangoproject.com/ticket/36389",
    ),
)

#: Django's test machinery, which is never called in production.
TEST_RUNNER = (
    Patch(
        "django.db.backends.base.creation:BaseDatabaseCreation.create_test_db",
        "self, verbosity, autoclobber, serialize, keepdb",
        "replicant.patches.test_runner",
        "Mirrors would have separate connections, which do not see the uncommitted rows of a test.",
        ticket="https://code.djangoproject.com/ticket/23718",
    ),
    Patch(
        "django.db.utils:ConnectionHandler.create_connection",
        "self, alias",
        "replicant.patches.test_runner",
        "In other threads of a test, mirrors would have separate connections.",
        ticket="https://code.djangoproject.com/ticket/23718",
    ),
    Patch(
        "django.test.testcases:SimpleTestCase._add_databases_failures",
        "cls",
        "replicant.patches.test_runner",
        "A read would be routed to a replica that the test case does not list.",
        ticket="a signal that is sent when a test case limits its databases",
    ),
    Patch(
        "django.test.testcases:SimpleTestCase._remove_databases_failures",
        "cls",
        "replicant.patches.test_runner",
        "After a test case, the limits of its databases would still apply.",
        ticket="a signal that is sent when a test case limits its databases",
    ),
)

#: Installed only by :class:`replicant.testing.lag`, while it is in force.
TESTING = (
    Patch(
        "django.db.backends.base.base:BaseDatabaseWrapper._cursor",
        "self, name",
        "replicant.testing.lagging",
        "A replica that lags virtually would show its current rows.",
        ticket="a cursor that execute wrappers can replace",
    ),
    Patch(
        "django.db.transaction:Atomic.__exit__",
        "self, exc_type, exc_value, traceback",
        "replicant.testing.lagging",
        "The end of a transaction inside a test case's transaction would not be noticed, and its writes would not lag.",
        ticket="signals at the end of a transaction",
    ),
)

#: Methods that are replaced on one object at a time: a connection or a response.
OBJECTS = (
    Patch(
        "django.http.response:HttpResponseBase.close",
        "self",
        "replicant.scopes.suspended",
        "Receivers of request_finished, and the close() of a body, would run outside the scopes of the request.",
        ticket="a context for the body of a streamed response",
    ),
    *(
        Patch(
            f"django.db.backends.base.base:BaseDatabaseWrapper.{name}",
            parameters,
            "replicant.connections.tracker",
            purpose,
            ticket="signals at the end of a transaction; on_commit() callbacks that run before those of the site",
        )
        for name, parameters, purpose in (
            ("_commit", "self", "The tracker would not know that a write is visible to other sessions."),
            ("_rollback", "self", "A write that was rolled back would pin reads."),
            ("_close", "self", "A transaction that ended with its connection would count as open."),
            (
                "set_autocommit",
                "self, autocommit, force_begin_transaction_with_broken_autocommit",
                "The end of a transaction without atomic() would not be noticed.",
            ),
        )
    ),
    *(
        Patch(
            f"django.db.backends.base.base:BaseDatabaseWrapper.{name}",
            "self, cursor",
            "replicant.connections.cursors",
            "callproc(), COPY and executescript() bypass execute wrappers: their writes would not be noticed.",
            ticket="execute wrappers that wrap every call on a cursor",
        )
        for name in ("make_cursor", "make_debug_cursor")
    ),
)

#: Classes of drivers and of other packages, if they are installed.
OTHERS = (
    Patch(
        "psycopg:Connection._connect_gen",
        "cls, conninfo",
        "replicant.engines.connect_deadline",
        "The shortest connect timeout would be two seconds, the minimum of libpq.",
        ticket="a connect timeout in fractions of a second",
    ),
    Patch(
        "pymysql.connections:Connection._execute_command",
        "self, command, sql",
        "replicant.engines.mysql_session_track",
        "The position of a commit would cost a query (a round trip).",
        ticket="a public way to the session state of an OK packet",
    ),
    Patch(
        "pymysql.connections:Connection._read_ok_packet",
        "self",
        "replicant.engines.mysql_session_track",
        "The position of a commit would cost a query (a round trip).",
        ticket="a public way to the session state of an OK packet",
    ),
    Patch(
        "django_tenants.postgresql_backend.base:DatabaseWrapper.__init__",
        "self, args, kwargs",
        "replicant.engines.tenants",
        "A tenant that is set before the first statement would be unknown, and reads would go to another schema.",
        ticket="a signal that connection.set_tenant() sends",
    ),
    *(
        Patch(
            f"polymorphic.models:PolymorphicModel.{name}",
            "self",
            "replicant.patches.instances",
            "The row with the real class would be read from the replica of the instance, after a write.",
            ticket="reads of related rows that call the router with the hint instance",
        )
        for name in (
            "get_real_instance",
            "get_real_instance_class",
            "get_real_concrete_instance_class",
            "get_real_concrete_instance_class_id",
        )
    ),
    Patch(
        "polymorphic.managers:PolymorphicManager.create_from_super",
        "self, obj, kwargs",
        "replicant.patches.instances",
        "The row that is to be extended would be read from a replica.",
        ticket="reads of related rows that call the router with the hint instance",
    ),
    *(
        Patch(
            f"mptt.models:MPTTModel.{name}",
            parameters,
            "replicant.patches.instances",
            "The tree around a node would be read from a replica, and written to the primary.",
            ticket="reads that call the router's db_for_write()",
        )
        for name, parameters in (
            ("save", "self, args, kwargs"),
            ("delete", "self, args, kwargs"),
            ("insert_at", "self, target, position, save, allow_existing_pk, refresh_target"),
            ("_mptt_refresh", "self"),
        )
    ),
)

PATCHES = (*DJANGO, *TEST_RUNNER, *TESTING, *OBJECTS, *OTHERS)

_installed = False
#: Held during the installation, because several threads may load the settings at the same time.
_installing = threading.Lock()


def install() -> None:
    """Install the patches that do not depend on the installed apps. May be called again.

    :mod:`replicant.patches.instances` and :mod:`replicant.patches.related_managers` are installed when the apps are
    ready.
    """
    # Returns early: connecting a signal again would take its lock, and a fork at that time would leave it locked.
    if _installed:
        return
    with _installing:
        if not _installed:
            _install()


def _install() -> None:
    global _installed
    from replicant.patches import commands, connections, found_rows, partial_save, raw_queries, test_runner

    for module in (connections, partial_save, found_rows, raw_queries, commands, test_runner):
        module.install()
    # Set last: a thread that sees the flag does not wait, and its connections must already be tracked.
    _installed = True


def _after_fork_in_child() -> None:
    global _installing
    _installing = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
