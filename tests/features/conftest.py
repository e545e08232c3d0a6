"""Servers whose replicas stand still: each holds what was there before, and nothing that a test writes."""

from __future__ import annotations

import contextvars
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import django
import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from replicant import ReplicaWriteError, request_scope, use_replica
from tests.app.models import Note, Tag
from tests.databases import use_databases
from tests.features.models import Author, Book, Chapter, Novel
from tests.servers import Cluster

NAME = "features"
OLD_BOOKS = 12
PASSWORD = "old-password"
#: Nobody waits: replicas that stand still do not come. They are asked all the same.
CLUSTER = {"REPLICAS": ["replica1", "replica2"], "WAIT_SECONDS": 0, "MAX_LAG": None}
READS = ("SELECT", "EXPLAIN", "SHOW", "DESCRIBE")
MIDDLEWARE = [
    "replicant.middleware.ReplicaMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
_MAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
#: Django 6.1 has the one in place of the other.
MAIL: dict[str, Any] = {"EMAIL_BACKEND": _MAIL_BACKEND}
if django.VERSION >= (6, 1):
    MAIL = {"MAILERS": {"default": {"BACKEND": _MAIL_BACKEND}}}
SETTINGS: dict[str, Any] = {
    "REPLICANT": {"default": CLUSTER},
    "MIDDLEWARE": MIDDLEWARE,
    "ROOT_URLCONF": "tests.features.urls",
    "ALLOWED_HOSTS": ["testserver"],
    "STATIC_URL": "/static/",
    "CACHES": {"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "cache_table"}},
    **MAIL,
    "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"],
    "TEMPLATES": [
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
}


@contextmanager
def site(cluster: Cluster) -> Iterator[None]:
    with use_databases(cluster.databases(NAME), **SETTINGS):
        yield


def elsewhere(function: Callable[[], Any]) -> Any:
    """Call it as somebody else, who has neither written nor read anything."""
    return contextvars.Context().run(function)


_numbers = itertools.count(1)


def new() -> str:
    """A name that no row has."""
    return f"new-{next(_numbers)}"


def new_book(**values: Any) -> Book:
    """A book, and its author, that no replica has."""
    return Book.objects.create(**{"author": Author.objects.create(name=new()), "title": new(), "stock": 5, **values})


def _fill() -> None:
    call_command("migrate", verbosity=0)
    call_command("createcachetable", verbosity=0)
    User.objects.create_superuser("admin", password=PASSWORD)
    for name in ("reader", "forgetful"):
        User.objects.create_user(name, f"{name}@example.com", PASSWORD)
    author = Author.objects.create(name="old author")
    tag = Tag.objects.create(name="old tag")
    for number in range(OLD_BOOKS):
        book = Book.objects.create(author=author, title=f"old {number:02}", stock=10)
        book.tags.add(tag)
        Chapter.objects.create(book=book, title="old chapter")
        Note.objects.create(about=book, text="old note")
    Novel.objects.create(author=author, title="old novel", stock=10, genre="old genre")


@pytest.fixture(scope="package")
def paused(cluster: Cluster) -> Iterator[Cluster]:
    cluster.create_database(NAME)
    with site(cluster):
        elsewhere(_fill)
    cluster.wait_until_caught_up()
    for replica in cluster.replicas:
        replica.pause_replication()
    yield cluster
    for replica in cluster.replicas:
        replica.resume_replication()
    cluster.wait_until_caught_up()


class Sent(list[tuple[str, str]]):
    """Every statement that a test sent by whatever thread: the alias, and the text."""

    def __call__(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        self.append((context["connection"].alias, str(sql)))
        return execute(sql, params, many, context)

    def to_replicas(self) -> list[str]:
        return [sql for alias, sql in self if alias != "default"]

    @contextmanager
    def refused(self) -> Iterator[None]:
        """What the block sends to a replica is refused there."""
        before = len(self)
        with pytest.raises(ReplicaWriteError, match="is a replica"):
            yield
        del self[before:]


@pytest.fixture
def servers(paused: Cluster) -> Iterator[Cluster]:
    """The site on the cluster, in place of the root's fixture that lets replicas move again."""
    with site(paused):
        yield paused


@pytest.fixture(autouse=True)
def sent(servers: Cluster) -> Iterator[Sent]:
    """What was sent. Whatever a test does, replicas get nothing but reads."""
    sent = Sent()

    def opened(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
        if sent not in connection.execute_wrappers:
            connection.execute_wrappers.append(sent)

    connection_created.connect(opened)
    yield sent
    connection_created.disconnect(opened)
    strange = [sql for sql in sent.to_replicas() if not sql.lstrip("( \n").upper().startswith(READS)]
    assert strange == []
    assert [sql for sql in sent.to_replicas() if "FOR UPDATE" in sql] == []


@pytest.fixture(params=[nullcontext, request_scope, use_replica], ids=["plain", "request", "use_replica"])
def scope(request: pytest.FixtureRequest) -> Any:
    """What a test runs in: a script, a request, or a view that asks for replicas."""
    return request.param


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Scopes are the router's business, which no engine changes: all of them on one engine, requests on every one."""

    def is_repetition(item: pytest.Item) -> bool:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        return parameters.get("cluster", "mysql") != "mysql" and parameters.get("scope") in (nullcontext, use_replica)

    items[:] = [item for item in items if not is_repetition(item)]
