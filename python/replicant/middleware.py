"""The middleware: a request scope around each request, and the token that the client brings to its next request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from replicant.connections import causality
from replicant.scopes import request_scope, use_primary
from replicant.scopes.suspended import finish_later
from replicant.tokens import stores

#: The safe methods (RFC 9110, section 9.2.1) that views have.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_SyncGet = Callable[[HttpRequest], HttpResponseBase]
_AsyncGet = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


class ReplicaMiddleware:
    """Opens a request scope around each request, sync or async.

    Inside the scope, the reads of a request come from one replica, and after a write from the primary. Requests with
    methods that are not safe start in ``use_primary``: a handler that reads, changes and saves must not start from
    stale rows. This middleware belongs at the head of ``MIDDLEWARE``, so that the queries of other middleware are
    inside the scope.

    Before the response leaves, the middleware adds a token for the request's writes, and for the tokens that the
    client brought, as ``settings.REPLICANT_TOKEN`` says. At the head of ``MIDDLEWARE`` it does so outside of Django's
    cache middleware, which therefore never stores one client's token for other clients.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: _SyncGet | _AsyncGet) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._call_async(request)
        with request_scope():
            if request.method in SAFE_METHODS:
                return self._respond(request)
            with use_primary():
                return self._respond(request)

    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        with request_scope():
            if request.method in SAFE_METHODS:
                return await self._respond_async(request)
            with use_primary():
                return await self._respond_async(request)

    def _respond(self, request: HttpRequest) -> HttpResponseBase:
        store = stores.in_force()
        carried = store.receive(request) if store else None
        response = cast(_SyncGet, self.get_response)(request)
        if store and (carried is not None or causality.owes_token()):
            store.send(request, response, carried)
        return cast(HttpResponseBase, finish_later(response))

    async def _respond_async(self, request: HttpRequest) -> HttpResponseBase:
        store = stores.in_force()
        carried = await store.areceive(request) if store else None
        response = await cast(_AsyncGet, self.get_response)(request)
        if store and (carried is not None or causality.owes_token()):
            await store.asend(request, response, carried)
        return cast(HttpResponseBase, finish_later(response))
