"""The stores of a client's tokens between its requests: cookies, a header, or the cache (by user)."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.core.signing import b64_encode
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_cache_control, patch_vary_headers
from django.utils.crypto import salted_hmac
from django.utils.functional import LazyObject, empty

from replicant.conf import token_settings
from replicant.conf.token_settings import TokenSettings
from replicant.connections import causality
from replicant.tokens.cache_log import Log
from replicant.tokens.carried import Answer, Carried

logger = logging.getLogger("replicant")


class Store(Protocol):
    """The operations that the middleware needs. Each one has a sync and an async form, as Django's middleware has."""

    def receive(self, request: HttpRequest) -> Carried | None:
        """Add the requirements of the client's tokens to the current scope. None if the request has no tokens, and will
        have none."""

    async def areceive(self, request: HttpRequest) -> Carried | None: ...

    def send(self, request: HttpRequest, response: HttpResponseBase, carried: Carried | None) -> None:
        """Send a token for the writes and reads of this scope to the client, for its next request."""

    async def asend(self, request: HttpRequest, response: HttpResponseBase, carried: Carried | None) -> None: ...


class _InMessages:
    """Tokens that travel in the request and the response themselves."""

    def __init__(self, found: TokenSettings) -> None:
        self.settings = found

    def sent(self, request: HttpRequest) -> Mapping[str, str]:
        """The tokens, by their names at the client."""
        raise NotImplementedError

    def put(self, request: HttpRequest, response: HttpResponseBase, answer: Answer) -> None:
        raise NotImplementedError

    def receive(self, request: HttpRequest) -> Carried | None:
        sent = self.sent(request)
        if not sent:
            return None
        carried = Carried(self.settings.max_age)
        carried.take(sent)
        return carried

    async def areceive(self, request: HttpRequest) -> Carried | None:
        return self.receive(request)

    def send(self, request: HttpRequest, response: HttpResponseBase, carried: Carried | None) -> None:
        answer = (carried or Carried(self.settings.max_age)).answer()
        # Without an answer the client keeps its tokens until they expire, and this response stays cacheable.
        if answer is not None:
            self.put(request, response, answer)

    async def asend(self, request: HttpRequest, response: HttpResponseBase, carried: Carried | None) -> None:
        if causality.owes_token():
            # The position may still have to be queried, in the thread with the connection that wrote.
            await sync_to_async(self.send)(request, response, carried)
        else:
            self.send(request, response, carried)


def _is_for_one(response: HttpResponseBase, header: str) -> None:
    """Keep a response with a token out of shared caches: its requirements would otherwise bind other clients."""
    patch_cache_control(response, private=True)
    patch_vary_headers(response, (header,))


class CookieStore(_InMessages):
    """For browsers. Each token is a cookie with its own name, because responses arrive in any order."""

    def sent(self, request: HttpRequest) -> Mapping[str, str]:
        name = self.settings.name
        # Parsing the header takes longer than the rest of this method, and most requests have no such cookie.
        if "COOKIES" not in request.__dict__ and name not in request.META.get("HTTP_COOKIE", ""):
            return {}
        return {key: value for key, value in request.COOKIES.items() if key.startswith(name) and value}

    def put(self, request: HttpRequest, response: HttpResponseBase, answer: Answer) -> None:
        self._set(request, response, self._fresh(answer), answer.text, self.settings.max_age)
        self.drop(request, response, answer)

    def drop(self, request: HttpRequest, response: HttpResponseBase, answer: Answer) -> None:
        """Delete the cookies of this request that ``answer`` contains."""
        for name in answer.contained:
            # Only a name that came as a cookie of the request: other keys are not names of cookies.
            if name in request.COOKIES:
                self._set(request, response, name, "", 0)
        _is_for_one(response, "Cookie")

    def _fresh(self, answer: Answer) -> str:
        """A name for a cookie. Only a token that states the same has the same name.

        With random names, each of fifty requests that a page sends at once would leave a cookie, more than servers
        accept.
        """
        if answer.name is None:
            suffix = os.urandom(8)
        else:
            key = f"{__name__}.{self.settings.name}"
            suffix = salted_hmac(key, answer.name, settings.SECRET_KEY, algorithm="sha256").digest()[:8]
        return f"{self.settings.name}_{b64_encode(suffix).decode()}"

    def _set(self, request: HttpRequest, response: HttpResponseBase, name: str, value: str, max_age: float) -> None:
        found = self.settings
        response.set_cookie(
            name,
            value,
            max_age=int(max_age),
            expires=None if value else "Thu, 01 Jan 1970 00:00:00 GMT",
            domain=found.domain,
            path=found.path,
            secure=request.is_secure() if found.secure is None else found.secure,
            httponly=True,
            samesite=found.samesite,
        )


class HeaderStore(_InMessages):
    """For API clients, which send all tokens that they hold, separated by commas. The header of a response replaces all
    tokens that its request sent."""

    def __init__(self, found: TokenSettings) -> None:
        super().__init__(found)
        self._key = f"HTTP_{found.name.upper().replace('-', '_')}"

    def sent(self, request: HttpRequest) -> Mapping[str, str]:
        sent = request.META.get(self._key, "")
        return {text: text for each in sent.split(",") if (text := each.strip())} if sent else {}

    def put(self, request: HttpRequest, response: HttpResponseBase, answer: Answer) -> None:
        response[self.settings.name] = ", ".join([answer.text, *answer.kept])
        _is_for_one(response, self.settings.name)


class CacheStore:
    """By authenticated user, in the default cache: users see on one device what they wrote with another.

    The user is known from the session, or when a middleware or a view sets ``request.user``: from then on the request
    sees what that user's other requests wrote. A request's token is kept for each user that the request had, so that it
    is found again after a logout and a login. A client that is anonymous at the end of its request also gets a cookie.

    The session is read only for this, which must not make the response vary. If the cache fails, the failure is logged,
    and the request continues without a token.
    """

    def __init__(self, found: TokenSettings) -> None:
        self.settings = found
        self._cookies = CookieStore(found)

    def receive(self, request: HttpRequest) -> Carried:
        return self._receive(request, self._user(request, _session_user(request)))

    async def areceive(self, request: HttpRequest) -> Carried:
        user = self._user(request, await _asession_user(request))
        if user is None:
            return self._receive(request, None)
        return await sync_to_async(self._receive)(request, user)

    def _receive(self, request: HttpRequest, user: Any) -> Carried:
        carried = _ByUser(self.settings, user)
        if sent := self._cookies.sent(request):
            carried.take(sent)
        if user is not None:
            carried.meet(user)
        _watch(request, carried)
        return carried

    def send(self, request: HttpRequest, response: HttpResponseBase, carried: Carried | None) -> None:
        self._send(request, response, carried, self._user(request, _session_user(request)))

    async def asend(self, request: HttpRequest, response: HttpResponseBase, carried: Carried | None) -> None:
        user = self._user(request, await _asession_user(request))
        if carried or user is not None or causality.owes_token():
            await sync_to_async(self._send)(request, response, carried, user)

    def _send(self, request: HttpRequest, response: HttpResponseBase, carried: Carried | None, user: Any) -> None:
        assert isinstance(carried, _ByUser)
        if user is not None:
            carried.meet(user)
        # If the user has changed or logged out, the next request will not find the tokens of the first user.
        answer = carried.answer(forced=bool(carried) and user != carried.first)
        if answer is None:
            return
        carried.keep(answer)
        if user is None:
            self._cookies.put(request, response, answer)
        elif any(key in request.COOKIES for key in answer.contained):
            self._cookies.drop(request, response, answer)

    def _user(self, request: HttpRequest, user: Any) -> Any:
        """The key of the user of ``request``; None if no user is logged in, as far as is known without a query."""
        if user is None:
            user = _known(request.__dict__.get("user"))
        return None if user is None else str(user)


class _ByUser(Carried):
    """The tokens of a request's users, in addition to the tokens that its client carried."""

    def __init__(self, found: TokenSettings, first: str | None) -> None:
        super().__init__(found.max_age)
        #: The user at the beginning of the request.
        self.first = first
        self._settings = found
        #: The list of each user, and the index of its end.
        self._logs: dict[str, tuple[Log, int | None]] = {}

    def meet(self, user: str) -> None:
        """Add the tokens of ``user``, which is, or becomes, the user of this request."""
        if user in self._logs:
            return
        log = Log(self._settings.name, user, self._settings.max_age)
        # Stored before the cache is read: if the cache fails, the list begins anew.
        self._logs[user] = log, None
        with _logged():
            number, entry = log.last()
            self._logs[user] = log, number
            self._learn(entry)

    def _learn(self, entry: str) -> None:
        self.take({text: text for text in entry.split(",") if text})

    def keep(self, answer: Answer) -> None:
        """Append ``answer`` to the list of each user of this request."""

        def entry() -> str:
            again = self.answer(forced=True) or answer
            return ",".join([again.text, *again.kept])

        for log, number in self._logs.values():
            with _logged():
                log.append(number, entry, self._learn)


@contextmanager
def _logged() -> Iterator[None]:
    try:
        yield
    except Exception:
        logger.exception("The cache that holds clients' tokens failed; the request continues without a token.")


@contextmanager
def _unnoticed(session: Any) -> Iterator[None]:
    """Read a session without making the response vary on it: the target of the reads does not change the response."""
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


def _known(user: Any) -> Any:
    """The key of a user object; None for an anonymous user, and for a user that would need a query."""
    if isinstance(user, LazyObject):
        # The object of AuthenticationMiddleware: it is either unread, and then knows no more than the session, or some
        # code has already loaded it.
        user = user.__dict__["_wrapped"]
        if user is empty:
            return None
    return user.pk if user is not None and user.is_authenticated else None


def _watch(request: HttpRequest, carried: _ByUser) -> None:
    """Notify ``carried`` when code sets the user of ``request``, as ``login`` and an API's authentication do."""
    if not isinstance(request, _Watched):
        request.__class__ = _watched(type(request))
    request.__dict__[_CARRIED] = carried


_CARRIED = "_replicant_carried"


class _Watched:
    """A request with a ``user`` property that notifies. A property is needed because no signal is sent when an API's
    own authentication sets the user."""

    @property
    def user(self) -> Any:
        try:
            return self.__dict__["user"]
        except KeyError:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute 'user'") from None

    @user.setter
    def user(self, user: Any) -> None:
        self.__dict__["user"] = user
        carried: _ByUser | None = self.__dict__.get(_CARRIED)
        if carried is None or (key := _known(user)) is None:
            return
        if asyncio._get_running_loop() is None:
            carried.meet(str(key))
        else:
            # A query to the cache must not block the event loop.
            carried.assume()


#: The subclasses that :func:`_watched` has made, by their base class.
_made_of: dict[type[HttpRequest], type[HttpRequest]] = {}


def _watched(kind: type[HttpRequest]) -> type[HttpRequest]:
    if kind not in _made_of:
        _made_of[kind] = type(kind.__name__, (_Watched, kind), {"__module__": kind.__module__})
    return _made_of[kind]


_STORES: dict[str, Callable[[TokenSettings], Store]] = {
    "cookie": CookieStore,
    "header": HeaderStore,
    "cache": CacheStore,
}
#: A setting, and the store that was made for it.
_made: tuple[TokenSettings | None, Store | None] = (None, None)


def in_force() -> Store | None:
    """The store that ``REPLICANT_TOKEN`` names. Raises ``ImproperlyConfigured`` if the setting cannot be used."""
    global _made
    found = token_settings.load()
    made_for, store = _made
    if found is not made_for:
        store = None if found.store is None else _STORES[found.store](found)
        _made = found, store
    return store
