"""Where a client's token is kept between its requests: in a cookie, in a header, or in the cache, by user."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, Protocol, TypeAlias

from asgiref.sync import sync_to_async
from django.contrib.auth import SESSION_KEY
from django.core.cache import cache
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_cache_control, patch_vary_headers
from django.utils.functional import LazyObject

from replicant import causality, token_settings, tokens
from replicant.causality import Causality
from replicant.token_settings import TokenSettings

logger = logging.getLogger("replicant")


class Store(Protocol):
    """What the middleware needs. Each step comes in two kinds, as Django's middleware does."""

    def receive(self, request: HttpRequest) -> Received:
        """Require of the scope in force what the client's tokens say. Returns the genuine ones."""

    async def areceive(self, request: HttpRequest) -> Received: ...

    def send(self, request: HttpRequest, response: HttpResponseBase, received: Received) -> None:
        """Hand what this scope has written and read to the client's next request."""

    async def asend(self, request: HttpRequest, response: HttpResponseBase, received: Received) -> None: ...


#: The genuine tokens that a client brought, and what each requires.
Received: TypeAlias = Mapping[str, tuple[Causality, ...]]
#: What a client brought that brought nothing.
NOTHING: Received = {}


def _require(sent: Iterable[str], max_age: float) -> Received:
    genuine = {}
    for token in sent:
        if required := tokens.decode(token, max_age):
            causality.require(required)
            genuine[token] = required
    return genuine


def _token(received: Received) -> str:
    return tokens.renewed(chain.from_iterable(received.values()))


async def _atoken(received: Received) -> str:
    # What was written may still have to be asked of the server, on the thread whose connection wrote it.
    return await sync_to_async(_token)(received) if causality.has_written() else _token(received)


class _InMessages:
    """A token that travels in the request and the response themselves."""

    def __init__(self, found: TokenSettings) -> None:
        self.settings = found

    def sent(self, request: HttpRequest) -> str:
        raise NotImplementedError

    def put(self, request: HttpRequest, response: HttpResponseBase, token: str) -> None:
        raise NotImplementedError

    def receive(self, request: HttpRequest) -> Received:
        token = self.sent(request)
        return _require((token,), self.settings.max_age) if token else NOTHING

    async def areceive(self, request: HttpRequest) -> Received:
        return self.receive(request)

    def send(self, request: HttpRequest, response: HttpResponseBase, received: Received) -> None:
        self._send(request, response, _token(received))

    async def asend(self, request: HttpRequest, response: HttpResponseBase, received: Received) -> None:
        self._send(request, response, await _atoken(received))

    def _send(self, request: HttpRequest, response: HttpResponseBase, token: str) -> None:
        # Otherwise what the client holds is left to expire: this response stays cacheable.
        if token:
            self.put(request, response, token)
            # Whoever else got this response would be held to what this client has seen.
            patch_cache_control(response, private=True)


class CookieStore(_InMessages):
    """For browsers."""

    def sent(self, request: HttpRequest) -> str:
        name = self.settings.name
        # Parsing the header takes longer than all the rest, and most requests have no such cookie.
        if "COOKIES" not in request.__dict__ and name not in request.META.get("HTTP_COOKIE", ""):
            return ""
        return request.COOKIES.get(name, "")

    def put(self, request: HttpRequest, response: HttpResponseBase, token: str) -> None:
        found = self.settings
        response.set_cookie(
            found.name,
            token,
            max_age=int(found.max_age),
            domain=found.domain,
            path=found.path,
            secure=request.is_secure() if found.secure is None else found.secure,
            httponly=True,
            samesite=found.samesite,
        )
        patch_vary_headers(response, ("Cookie",))


class HeaderStore(_InMessages):
    """For API clients, which send what the last response with such a header had in it."""

    def __init__(self, found: TokenSettings) -> None:
        super().__init__(found)
        self._key = f"HTTP_{found.name.upper().replace('-', '_')}"

    def sent(self, request: HttpRequest) -> str:
        token: str = request.META.get(self._key, "")
        return token

    def put(self, request: HttpRequest, response: HttpResponseBase, token: str) -> None:
        response[self.settings.name] = token
        patch_vary_headers(response, (self.settings.name,))


class CacheStore:
    """By authenticated user, in the default cache: what people write with one device they see with the other.

    Each user has ``SLOTS`` slots, and what is in any of them is required. A token goes to an empty slot, by ``add``,
    which two requests cannot both do; if there is none, over one whose token this scope has required, so that the new
    one stands for both: the slots are read again just before. What can still be lost: all slots are filled, and two
    requests of one user choose the same one, both between their last two calls to the cache; then the token that was
    stored first.

    A user is found without a query of the user table: by the session, else as a middleware or a view has set it. The
    session is looked at for this alone, which must not make the response vary. A cache that fails is logged, and the
    request goes on without a token.
    """

    SLOTS = 4

    def __init__(self, found: TokenSettings) -> None:
        self.settings = found

    def receive(self, request: HttpRequest) -> Received:
        slots: dict[str, str] = {}
        if keys := self._keys(request, _session_user(request)):
            with _logged():
                slots = cache.get_many(keys)
        return _require(slots.values(), self.settings.max_age)

    async def areceive(self, request: HttpRequest) -> Received:
        slots: dict[str, str] = {}
        if keys := self._keys(request, await _asession_user(request)):
            with _logged():
                slots = await cache.aget_many(keys)
        return _require(slots.values(), self.settings.max_age)

    def send(self, request: HttpRequest, response: HttpResponseBase, received: Received) -> None:
        # Asked again: the view may have logged in or out.
        keys = self._keys(request, _session_user(request))
        timeout = self.settings.max_age
        with _logged():
            slots = cache.get_many(keys) if keys else {}
            received = {**received, **_require(set(slots.values()) - set(received), timeout)}
            if not keys or not (token := _token(received)):
                return
            for key in keys:
                if key not in slots and cache.add(key, token, timeout):
                    return
            cache.set(random.choice(list(slots or keys)), token, timeout)

    async def asend(self, request: HttpRequest, response: HttpResponseBase, received: Received) -> None:
        keys = self._keys(request, await _asession_user(request))
        timeout = self.settings.max_age
        with _logged():
            slots = await cache.aget_many(keys) if keys else {}
            received = {**received, **_require(set(slots.values()) - set(received), timeout)}
            if not keys or not (token := await _atoken(received)):
                return
            for key in keys:
                if key not in slots and await cache.aadd(key, token, timeout):
                    return
            await cache.aset(random.choice(list(slots or keys)), token, timeout)

    def _keys(self, request: HttpRequest, user: Any) -> list[str]:
        """The keys of a user's slots; none if nobody is logged in."""
        if user is None:
            found = request.__dict__.get("user")
            # AuthenticationMiddleware's stand-in knows no more than the session does, and would query to say so.
            if found is None or isinstance(found, LazyObject) or not found.is_authenticated:
                return []
            user = found.pk
        # As text: what one process has as a number the session may have as its digits. As a hash: keys are short.
        digest = hashlib.sha256(str(user).encode()).hexdigest()[:32]
        return [f"{self.settings.name}:{digest}:{slot}" for slot in range(self.SLOTS)]


@contextmanager
def _logged() -> Iterator[None]:
    try:
        yield
    except Exception:
        logger.exception("The cache that holds clients' tokens failed; the request goes on without.")


@contextmanager
def _unnoticed(session: Any) -> Iterator[None]:
    """Look at a session without having the response vary on it: where its reads go changes nothing in it."""
    accessed = session.accessed
    try:
        yield
    finally:
        session.accessed = accessed


def _session_user(request: HttpRequest) -> Any:
    session = getattr(request, "session", None)
    if session is None:
        return None
    with _unnoticed(session):
        return session.get(SESSION_KEY)


async def _asession_user(request: HttpRequest) -> Any:
    session = getattr(request, "session", None)
    if session is None:
        return None
    with _unnoticed(session):
        return await session.aget(SESSION_KEY)


_STORES: dict[str, Callable[[TokenSettings], Store]] = {
    "cookie": CookieStore,
    "header": HeaderStore,
    "cache": CacheStore,
}
#: A setting, and the store made for it.
_made: tuple[TokenSettings | None, Store | None] = (None, None)


def in_force() -> Store | None:
    """The store that ``REPLICANT_TOKEN`` names. Raises ``ImproperlyConfigured`` if it cannot be used."""
    global _made
    found = token_settings.load()
    made_for, store = _made
    if found is not made_for:
        store = None if found.store is None else _STORES[found.store](found)
        _made = found, store
    return store
