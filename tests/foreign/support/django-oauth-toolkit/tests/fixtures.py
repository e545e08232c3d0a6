"""The fixtures of the suite: a plugin, for a file called ``conftest`` would be taken for one of ours."""

import datetime
import json
import uuid
from types import SimpleNamespace
from urllib.parse import parse_qs, urlparse

import pytest

from tests import presets

CLEARTEXT_SECRET = "1234567890abcdefghijklmnopqrstuvwxyz"


def pytest_configure(config):
    config.addinivalue_line("markers", "oauth2_settings: the value of OAUTH2_PROVIDER that the fixture sets")
    config.addinivalue_line(
        "markers", "nologinrequiredmiddleware: what LoginRequiredMiddleware would keep from its view"
    )


class _Settings:
    """The settings of the package: what a test sets on it is undone with the rest."""

    def __init__(self, django_settings, provider):
        vars(self).update(_django_settings=django_settings, _provider=provider, _set=set())

    def update(self, values):
        self._django_settings.OAUTH2_PROVIDER = values
        self._provider.reload()
        # What a view made of former settings must not be kept.
        self.ALWAYS_RELOAD_OAUTHLIB_CORE = True

    def undo(self):
        # This forgets only what the package itself has looked up.
        self._provider.reload()
        for name in self._set & vars(self._provider).keys():
            delattr(self._provider, name)

    def __getattr__(self, name):
        return getattr(self._provider, name)

    def __setattr__(self, name, value):
        self._set.add(name)
        setattr(self._provider, name, value)

    def __delattr__(self, name):
        delattr(self._provider, name)


@pytest.fixture
def oauth2_settings(request, settings):
    from oauth2_provider.settings import oauth2_settings as provider

    marker = request.node.get_closest_marker("oauth2_settings")
    wrapped = _Settings(settings, provider)
    wrapped.update(marker.args[0] if marker else {})
    if request.instance is not None:
        request.instance.oauth2_settings = wrapped
    yield wrapped
    wrapped.undo()


@pytest.fixture
def rp_settings(oauth2_settings):
    oauth2_settings.update(presets.OIDC_SETTINGS_RP_LOGOUT)
    return oauth2_settings


@pytest.fixture
def oidc_key(request, oauth2_settings):
    from jwcrypto import jwk

    key = jwk.JWK.from_pem(presets.OIDC_SETTINGS_RW["OIDC_RSA_PRIVATE_KEY"].encode())
    if request.instance is not None:
        request.instance.key = key
    return key


@pytest.fixture
def test_user(django_user_model):
    return django_user_model.objects.create_user("test_user", "test@example.com", "123456")


@pytest.fixture
def other_user(django_user_model):
    return django_user_model.objects.create_user("other_user", "other@example.com", "123456")


@pytest.fixture
def logged_in_client(test_user):
    from django.test.client import Client

    client = Client()
    client.force_login(test_user)
    return client


def _application(user, **fields):
    from oauth2_provider.models import Application

    values = {
        "name": "Test Application",
        "redirect_uris": "http://example.org",
        "post_logout_redirect_uris": "http://example.org",
        "user": user,
        "client_type": Application.CLIENT_CONFIDENTIAL,
        "authorization_grant_type": Application.GRANT_AUTHORIZATION_CODE,
        "algorithm": Application.RS256_ALGORITHM,
        "client_secret": CLEARTEXT_SECRET,
    }
    return Application.objects.create(**{**values, **fields})


@pytest.fixture
def application(test_user):
    return _application(test_user)


@pytest.fixture
def public_application(test_user):
    return _application(
        test_user,
        name="Other Application",
        redirect_uris="http://other.org",
        post_logout_redirect_uris="http://other.org",
        client_type="public",
        client_secret="",
    )


@pytest.fixture
def cors_application(test_user):
    return _application(
        test_user,
        name="Application of another origin",
        redirect_uris="https://example.com",
        allowed_origins="https://example.com http://example.com",
    )


@pytest.fixture
def hybrid_application(test_user):
    return _application(test_user, name="Hybrid Test Application", authorization_grant_type="openid-hybrid")


def _tokens(oauth2_settings, application, user, client, scope="openid", secret=CLEARTEXT_SECRET):
    """What a client gets that a user allows ``scope``."""
    from django.urls import reverse

    client.force_login(user)
    asked = {
        "client_id": application.client_id,
        "state": "random_state_string",
        "scope": scope,
        "redirect_uri": application.redirect_uris,
        "response_type": "code",
        "allow": True,
    }
    allowed = client.post(reverse("oauth2_provider:authorize"), data=asked)
    assert allowed.status_code == 302
    (code,) = parse_qs(urlparse(allowed["Location"]).query)["code"]
    client.logout()
    asked = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": application.redirect_uris,
        "client_id": application.client_id,
        "client_secret": secret,
        "scope": scope,
    }
    given = client.post(reverse("oauth2_provider:token"), data=asked)
    assert given.status_code == 200
    tokens = given.json()
    return SimpleNamespace(
        user=user,
        application=application,
        access_token=tokens["access_token"],
        id_token=tokens["id_token"],
        oauth2_settings=oauth2_settings,
    )


@pytest.fixture
def oidc_tokens(oauth2_settings, application, test_user, client):
    oauth2_settings.update(presets.OIDC_SETTINGS_RW)
    return _tokens(oauth2_settings, application, test_user, client)


@pytest.fixture
def oidc_email_scope_tokens(oauth2_settings, application, test_user, client):
    oauth2_settings.update(presets.OIDC_SETTINGS_EMAIL_SCOPE)
    return _tokens(oauth2_settings, application, test_user, client, scope="openid email")


@pytest.fixture
def oidc_non_confidential_tokens(oauth2_settings, public_application, test_user, client):
    oauth2_settings.update(presets.OIDC_SETTINGS_RW)
    return _tokens(oauth2_settings, public_application, test_user, client, secret="")


def _id_token(application, user, key, **claims):
    """A token that the package has given out, with these claims in the place of usual ones."""
    from django.utils import timezone
    from jwcrypto import jwt
    from oauth2_provider.models import IDToken

    now = int(timezone.now().timestamp())
    identity = uuid.uuid4()
    usual = {
        "sub": str(user.pk),
        "aud": application.client_id,
        "iss": "http://localhost/o",
        "iat": now,
        "exp": now + 3600,
        "jti": str(identity),
    }
    held = {**usual, **claims}
    IDToken.objects.create(
        user=user,
        application=application,
        scope="openid",
        jti=identity,
        expires=datetime.datetime.fromtimestamp(held["exp"], tz=datetime.timezone.utc),
    )
    header = {"typ": "JWT", "alg": "RS256", "kid": key.thumbprint()}
    token = jwt.JWT(header=json.dumps(header), claims=json.dumps(held))
    token.make_signed_token(key)
    return token.serialize()


@pytest.fixture
def expired_id_token(application, test_user, oidc_key):
    from django.utils import timezone

    return _id_token(application, test_user, oidc_key, exp=int(timezone.now().timestamp()) - 3600)


@pytest.fixture
def id_token_wrong_aud(application, test_user, oidc_key):
    return _id_token(application, test_user, oidc_key, aud="nobody")


@pytest.fixture
def id_token_wrong_iss(application, test_user, oidc_key):
    return _id_token(application, test_user, oidc_key, iss="http://elsewhere.org")
