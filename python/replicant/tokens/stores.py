"""Where a client's tokens are kept between its requests: in cookies, in a header, or in the cache, by user."""

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
    """What the middleware needs. Each step comes in two kinds, as Django's middleware does."""

    def receive(self, request: HttpRequest) -> Carried | None:
        """Require of the scope in force what the client's tokens say. None if it has none, and will have none."""

    async def areceive(self, request: HttpRequest) -> Carried | None: ...

    def send(self, request: HttpRequest, response: HttpResponseBase, carried: Carried | None) -> None:
        """Hand what this scope has written and read to the client's next request."""

    async def asend(self, request: HttpRequest, response: HttpResponseBase, carried: Carried | None) -> None: ...


class _InMessages:
    """Tokens that travel in the request and the response themselves."""

    def __init__(self, found: TokenSettings) -> None:
        self.settings = found

    def sent(self, request: HttpRequest) -> Mapping[str, str]:
        """The tokens, by what the client calls them."""
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
        # Otherwise the client keeps what it holds until that expires: this response stays cacheable.
        if answer is not None:
            self.put(request, response, answer)

    async def asend(self, request: HttpRequest, response: HttpResponseBase, carried: Carried | None) -> None:
        if causality.owes_token():
            # The server may still have to be asked for the position, on the thread whose connection wrote.
            await sync_to_async(self.send)(request, response, carried)
        else:
            self.send(request, response, carried)


def _is_for_one(response: HttpResponseBase, header: str) -> None:
    """Keep a response with a token out of shared caches: it would hold other clients to what this one has seen."""
    patch_cache_control(response, private=True)
    patch_vary_headers(response, (header,))


class CookieStore(_InMessages):
    """For browsers. Each token is a cookie with a name of its own, since responses arrive in any order."""

    def sent(self, request: HttpRequest) -> Mapping[str, str]:
        name = self.settings.name
        # Parsing the header takes longer than all the rest, and most requests have no such cookie.
        if "COOKIES" not in request.__dict__ and name not in request.META.get("HTTP_COOKIE", ""):
            return {}
        return {key: value for key, value in request.COOKIES.items() if key.startswith(name) and value}

    def put(self, request: HttpRequest, response: HttpResponseBase, answer: Answer) -> None:
        self._set(request, response, self._fresh(answer), answer.text, self.settings.max_age)
        self.drop(request, response, answer)

    def drop(self, request: HttpRequest, response: HttpResponseBase, answer: Answer) -> None:
        """Delete the cookies of this request that ``answer`` contains."""
        for name in answer.contained:
            # One that came with the request, so that the name is its own.
            if name in request.COOKIES:
                self._set(request, response, name, "", 0)
        _is_for_one(response, "Cookie")

    def _fresh(self, answer: Answer) -> str:
        """A name that no other token has, but for one that says the same.

        Otherwise each of fifty requests that a page sends at once would leave a cookie, more than servers accept.
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
    """For API clients, which send all tokens that they hold, separated by commas. A response with the header takes the
    place of all that its request sent."""

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
    """By authenticated user, in the default cache: what people write with one device they see with the other.

    A user is known by the session, or as a middleware or a view sets ``request.user``: from then on the request sees
    what that user's other requests wrote. What a request writes is kept for each user that it knew, so that it is
    found again after a logout and a login. A client that is nobody at the end of its request is handed a cookie, too.

    The session is looked at for this alone, which must not make the response vary. A cache that fails is logged, and
    the request goes on without a token.
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
        # Another user, or nobody, would not find what this one's requests wrote.
        answer = carried.answer(forced=bool(carried) and user != carried.first)
        if answer is None:
            return
        carried.keep(answer)
        if user is None:
            self._cookies.put(request, response, answer)
        elif any(key in request.COOKIES for key in answer.contained):
            self._cookies.drop(request, response, answer)

    def _user(self, request: HttpRequest, user: Any) -> Any:
        """The key of the user of ``request``; None if nobody is logged in, as far as is known without a query."""
        if user is None:
            user = _known(request.__dict__.get("user"))
        return None if user is None else str(user)


class _ByUser(Carried):
    """What the users of a request hold, beside what its client carried."""

    def __init__(self, found: TokenSettings, first: str | None) -> None:
        super().__init__(found.max_age)
        #: The user that the request began with.
        self.first = first
        self._settings = found
        #: The end of each user's list.
        self._logs: dict[str, tuple[Log, int | None]] = {}

    def meet(self, user: str) -> None:
        """``user`` is, or becomes, the user of this request."""
        if user in self._logs:
            return
        log = Log(self._settings.name, user, self._settings.max_age)
        # Also if the cache fails: then the list is begun anew.
        self._logs[user] = log, None
        with _logged():
            number, entry = log.last()
            self._logs[user] = log, number
            self._learn(entry)

    def _learn(self, entry: str) -> None:
        self.take({text: text for text in entry.split(",") if text})

    def keep(self, answer: Answer) -> None:
        """Append ``answer`` to what each user of this request holds."""

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


def _known(user: Any) -> Any:
    """The key of a user object; None for an anonymous one, and for one that would have to be queried."""
    if isinstance(user, LazyObject):
        # AuthenticationMiddleware's, which knows no more than the session, or one that some code has looked at.
        user = user.__dict__["_wrapped"]
        if user is empty:
            return None
    return user.pk if user is not None and user.is_authenticated else None


def _watch(request: HttpRequest, carried: _ByUser) -> None:
    """Tell ``carried`` when a view sets the user of ``request``, as ``login`` and the authentication of an API do."""
    if not isinstance(request, _Watched):
        request.__class__ = _watched(type(request))
    request.__dict__[_CARRIED] = carried


_CARRIED = "_replicant_carried"


class _Watched:
    """A request whose ``user`` is watched. A property, since no signal tells when an API's own authentication sets
    it."""

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
            # The cache must not keep the event loop waiting.
            carried.assume()


#: By class, what :func:`_watched` made of it.
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
