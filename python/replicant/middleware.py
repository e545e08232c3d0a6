"""A scope around each request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from replicant.responses import finish_later
from replicant.scopes import request_scope, use_primary

#: Methods that change nothing (RFC 9110, section 9.2.1), as far as views have them.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_SyncGet = Callable[[HttpRequest], HttpResponseBase]
_AsyncGet = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


class ReplicaMiddleware:
    """Opens a request scope around each request, sync or async.

    Inside it the reads of a request come from one replica, and after a write from the primary. Requests that are not
    safe start in ``use_primary``: a handler that reads, changes and saves must not start from stale rows. Belongs at
    the head of ``MIDDLEWARE``, so that what other middleware asks of the database is inside.
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
        with _scopes(request):
            return cast(HttpResponseBase, finish_later(cast(_SyncGet, self.get_response)(request)))

    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        with _scopes(request):
            return cast(HttpResponseBase, finish_later(await cast(_AsyncGet, self.get_response)(request)))


def _scopes(request: HttpRequest) -> ExitStack:
    stack = ExitStack()
    stack.enter_context(request_scope())
    if request.method not in SAFE_METHODS:
        stack.enter_context(use_primary())
    return stack
