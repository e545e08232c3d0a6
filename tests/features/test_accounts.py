"""Who is logged in, and what they may do: right with session consistency, and where that cannot help, by an exemption.

Every claim of the README's section "What must be exempt" is tested here, and that it would fail otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core import mail
from django.core.checks import CheckMessage
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError
from django.test import Client, RequestFactory, override_settings
from rest_framework.exceptions import AuthenticationFailed

from replicant import request_scope
from replicant.checks import check_settings
from tests.browser import forget
from tests.features.conftest import CLUSTER, MIDDLEWARE, PASSWORD, Sent, elsewhere, new
from tests.features.models import Book

# Which engine it is makes no difference to Django's apps.
pytestmark = pytest.mark.parametrize("cluster", ["mysql"], indirect=True)


def configured(*exempt: str, **keys: Any) -> Any:
    """With these apps exempt and no others."""
    return override_settings(REPLICANT={"default": {**CLUSTER, "PRIMARY_ONLY": [*exempt], **keys}})


class Browser:
    """Somebody, who knows nothing but their cookies."""

    def __init__(self) -> None:
        self.client = Client()

    def me(self) -> str:
        return elsewhere(lambda: self.client.get("/me/")).content.decode()

    def visits(self) -> int:
        return int(elsewhere(lambda: self.client.get("/visits/")).content)

    def post(self, path: str, **data: str) -> int:
        response = elsewhere(lambda: self.client.post(path, data))
        assert response.status_code in (200, 302), response
        return response.status_code

    def log_in(self, name: str, password: str = PASSWORD) -> None:
        assert self.post("/accounts/login/?next=/me/", username=name, password=password) == 302


def signed_up() -> tuple[Browser, str]:
    browser, name = Browser(), new()
    browser.post("/sign-up/", name=name, password=PASSWORD)
    return browser, name


# With the settings as they come, nothing but the sessions and the database cache is exempt.


def test_who_signs_up_is_logged_in(sent: Sent):
    browser, name = signed_up()
    assert browser.me() == name
    assert sent.to_replicas() == []


def test_who_logs_in_is_logged_in_and_who_logs_out_is_not():
    browser = Browser()
    browser.log_in("reader")
    assert browser.me() == "reader"
    browser.post("/accounts/logout/")
    assert browser.me() == ""


def test_who_signed_up_logs_in_with_another_device():
    _, name = signed_up()
    phone = Browser()
    phone.log_in(name)
    assert phone.me() == name


def test_who_changes_a_password_stays_logged_in():
    browser, name = signed_up()
    browser.post("/me/password/", password="new-password")
    assert browser.me() == name
    phone = Browser()
    phone.log_in(name, "new-password")
    assert phone.me() == name
    assert browser.me() == name


def reset(address: str) -> Browser:
    """Ask for a mail, and follow the link in it, which nothing but the address ties to who asked."""
    Browser().post("/accounts/reset/", email=address)
    (path,) = re.findall(r"/accounts/reset/\S+/", mail.outbox.pop().body)
    browser = Browser()
    form = elsewhere(lambda: browser.client.get(path))
    if form.status_code == 302:
        browser.post(form.url, new_password1="Forgotten-12", new_password2="Forgotten-12")
        # Once: the form would still show while replicas lag, but it does nothing any more.
        other = Browser()
        elsewhere(lambda: other.client.get(path))
        elsewhere(lambda: other.client.post(form.url, {"new_password1": "Others-12", "new_password2": "Others-12"}))
    return browser


def test_a_password_forgotten_is_set_anew_with_the_link_in_the_mail():
    browser = reset("forgetful@example.com")
    browser.log_in("forgetful", "Forgotten-12")
    assert browser.me() == "forgetful"


def test_a_link_in_a_mail_knows_an_account_that_replicas_lack_if_users_are_exempt():
    for exempt, password in ((["auth"], "Forgotten-12"), ([], PASSWORD)):
        with configured("sessions", "django_cache", *exempt):
            _, name = signed_up()
            elsewhere(lambda name=name: User.objects.filter(username=name).update(email=f"{name}@example.com"))
            browser = reset(f"{name}@example.com")
            browser.log_in(name, password)


def test_sessions_count_up():
    browser = Browser()
    assert [browser.visits() for _ in range(3)] == [1, 2, 3]


@override_settings(SESSION_ENGINE="django.contrib.sessions.backends.cached_db")
def test_sessions_behind_the_database_cache_count_up():
    browser = Browser()
    assert [browser.visits() for _ in range(3)] == [1, 2, 3]


def test_sessions_that_are_not_exempt_are_right_for_who_brings_the_token():
    with configured():
        browser, name = signed_up()
        assert browser.me() == name
        assert [browser.visits() for _ in range(3)] == [1, 2, 3]


def test_but_without_it_they_are_lost_and_so_they_are_exempt():
    for exempt, expected in ((["sessions"], "reader"), ([], "")):
        with configured(*exempt):
            browser = Browser()
            browser.log_in("reader")
            forget(browser.client)
            assert browser.me() == expected


def test_who_is_locked_out_is_out_at_once_if_users_are_exempt():
    browser = Browser()
    browser.log_in("reader")
    # By then replicas have the login.
    forget(browser.client)
    elsewhere(lambda: User.objects.filter(username="reader").update(is_active=False))
    try:
        assert browser.me() == "reader"
        with configured("sessions", "django_cache", "auth"):
            assert browser.me() == ""
    finally:
        elsewhere(lambda: User.objects.filter(username="reader").update(is_active=True))


# Where no token comes back, users must be exempt, as a check says.

NO_TOKEN = {"REPLICANT_TOKEN": {"STORE": None}}
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "no tokens": ({}, NO_TOKEN),
    "a header, to a browser": ({}, {"REPLICANT_TOKEN": {"STORE": "header"}}),
    "no middleware": ({}, {"MIDDLEWARE": MIDDLEWARE[1:]}),
    "no consistency": ({"CONSISTENCY": "eventual"}, {}),
}


@pytest.mark.parametrize("way", WAYS)
def test_without_tokens_users_are_logged_out_unless_they_are_exempt(way: str):
    keys, others = WAYS[way]
    with override_settings(**others):
        with configured("sessions", "django_cache", "auth", **keys):
            browser, name = signed_up()
            assert browser.me() == name
            browser.post("/me/password/", password="new-password")
            assert browser.me() == name
        with configured("sessions", "django_cache", **keys):
            browser, name = signed_up()
            assert browser.me() == ""


def test_with_tokens_by_user_the_session_must_be_exempt_and_nothing_else():
    shared = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    middleware = [*MIDDLEWARE[1:4], MIDDLEWARE[0], *MIDDLEWARE[4:]]
    with override_settings(REPLICANT_TOKEN={"STORE": "cache"}, CACHES=shared, MIDDLEWARE=middleware):
        browser, name = signed_up()
        assert browser.me() == name
        with configured():
            browser, name = signed_up()
            assert browser.me() == ""


# Who is not who wrote: packages that the check names.


def test_a_token_of_an_api_that_was_just_issued_is_taken_if_tokens_are_exempt(monkeypatch: pytest.MonkeyPatch):
    # Whether the package is installed decides what its models are when they are imported, and the admin keeps them.
    installed = [app for app in settings.INSTALLED_APPS if app != "django.contrib.admin"]
    installed += ["rest_framework", "rest_framework.authtoken"]
    monkeypatch.setattr(settings, "INSTALLED_APPS", installed)
    apps.set_installed_apps(installed)
    try:
        from rest_framework.authentication import TokenAuthentication
        from rest_framework.authtoken.models import Token

        def proposals() -> list[CheckMessage]:
            return [message for message in check_settings(None) if "PRIMARY_ONLY" in (message.hint or "")]

        def is_known() -> bool:
            request = RequestFactory().get("/", headers={"Authorization": f"Token {token.key}"})
            with request_scope(), suppress(AuthenticationFailed, DatabaseError):
                return TokenAuthentication().authenticate(request)[0] == token.user
            return False

        elsewhere(lambda: call_command("migrate", "authtoken", verbosity=0))
        token = elsewhere(lambda: Token.objects.create(user=User.objects.get(username="reader")))
        with configured("sessions", "django_cache", "authtoken"):
            assert elsewhere(is_known)
            assert proposals() == []
        assert not elsewhere(is_known)
        (told,) = proposals()
        assert (told.id, told.hint) == ("replicant.W017", "Add 'authtoken' to PRIMARY_ONLY.")
        elsewhere(lambda: call_command("migrate", "authtoken", "zero", verbosity=0))
    finally:
        apps.unset_installed_apps()


# Permissions.


def test_rights_that_were_granted_may_be_used(scope):
    name = new()
    with scope():
        user = User.objects.create_user(name, password=PASSWORD)
        right = Permission.objects.get(codename="change_book")
        user.user_permissions.add(right)
        group = Group.objects.create(name=new())
        group.permissions.add(Permission.objects.get(codename="add_book"))
        user.groups.add(group)
        found = User.objects.get(pk=user.pk)
        assert found.has_perms(["features.change_book", "features.add_book"])
        assert not found.has_perm("features.delete_book")
        assert list(User.objects.with_perm("features.add_book").filter(is_superuser=False, pk=user.pk)) == [user]
        assert authenticate(username=name, password=PASSWORD) == user
        user.user_permissions.remove(right)
        assert not User.objects.get(pk=user.pk).has_perm("features.change_book")


def test_a_password_that_was_set_is_known(scope):
    with scope():
        user = User.objects.create_user(new(), password=PASSWORD)
        user.set_password("another")
        user.save()
        assert authenticate(username=user.username, password="another") == user
        assert authenticate(username=user.username, password=PASSWORD) is None


# Content types.


@pytest.fixture
def fresh() -> Iterator[type[Book]]:
    """A model whose content type the primary has and no replica."""

    class Fresh(Book):
        class Meta:
            app_label = "features"
            proxy = True

    elsewhere(lambda: ContentType.objects.create(app_label="features", model="fresh"))
    ContentType.objects.clear_cache()
    yield Fresh
    elsewhere(lambda: ContentType.objects.filter(model="fresh").delete())
    ContentType.objects.clear_cache()
    del apps.all_models["features"]["fresh"]
    apps.clear_cache()


def test_a_content_type_that_replicas_lack_is_found_on_the_primary(fresh: type[Book], scope):
    with scope():
        kind = ContentType.objects.get_for_model(fresh, for_concrete_model=False)
        assert kind == ContentType.objects.using("default").get(model="fresh")


def test_many_content_types_at_once_are_found_if_they_are_exempt(fresh: type[Book]):
    """Django makes the missing ones without another look."""
    with configured("sessions", "django_cache", "contenttypes"), request_scope():
        (kind,) = ContentType.objects.get_for_models(fresh, for_concrete_models=False).values()
        assert kind.model == "fresh"
    ContentType.objects.clear_cache()
    with request_scope(), pytest.raises(IntegrityError):
        ContentType.objects.get_for_models(fresh, for_concrete_models=False)


def test_a_content_type_that_was_made_is_found(scope):
    with scope():
        kind = ContentType.objects.create(app_label="features", model=new())
        assert ContentType.objects.get_by_natural_key("features", kind.model) == kind
        ContentType.objects.clear_cache()
        assert ContentType.objects.get_for_id(kind.pk) == kind
        ContentType.objects.clear_cache()
