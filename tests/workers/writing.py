"""One view: it writes a row, and says which process did so and by whose settings that reaches the primary."""

from __future__ import annotations

import os

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import Error
from django.http import HttpRequest, HttpResponse
from django.urls import path

django.setup()

from replicant.connections import server_map  # noqa: E402
from tests.app.models import Item  # noqa: E402


def write(request: HttpRequest, name: str) -> HttpResponse:
    try:
        Item.objects.create(name=name)
    except Error as error:
        return HttpResponse(f"{type(error).__name__}: {error}", status=503)
    return HttpResponse(f"{os.getpid()} {server_map.server_of('default')}")


settings.ROOT_URLCONF = __name__
urlpatterns = [path("<str:name>", write)]
wsgi = get_wsgi_application()
