"""A small site, and clients that send back the tokens that it gave them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.cache import caches
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, override_settings
from django.urls import path

from tests.connections.paused_replicas import read, write


def add(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"pk": write()})


def shelf(request: HttpRequest, pk: int) -> HttpResponse:
    alias, found = read(pk)
    return JsonResponse({"alias": alias, "found": found})


urlpatterns = [path("add/", add), path("shelf/<int:pk>/", shelf)]
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": __name__}}
SESSIONS = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "replicant.middleware.ReplicaMiddleware",
]


class Visitor:
    """A client that keeps cookies, and sends back the header with the token."""

    def __init__(self) -> None:
        self.client = Client()
        self.headers: dict[str, str] = {}

    def _get(self, url: str) -> Any:
        response = self.client.get(url, headers=self.headers)
        if "Replicant-Token" in response.headers:
            self.headers = {"Replicant-Token": response.headers["Replicant-Token"]}
        return response.json()

    def add(self) -> int:
        return self._get("/add/")["pk"]

    def shelf(self, pk: int) -> tuple[str, bool]:
        answer = self._get(f"/shelf/{pk}/")
        return answer["alias"], answer["found"]


@contextmanager
def web(**more: Any) -> Iterator[None]:
    with override_settings(ROOT_URLCONF=__name__, CACHES=CACHES, ALLOWED_HOSTS=["testserver"], **more):
        yield
        caches["default"].clear()
