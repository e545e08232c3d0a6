"""Settings of the example project. What concerns replicant stands first; the rest is any Django site's.

Environment variables, all set by demo.py:

REPLICANT_DEMO_FOLDER      where the SQLite files are (default: run/8000 beside manage.py)
REPLICANT_DEMO_DATABASES   DATABASES as JSON, instead of the SQLite files
REPLICANT_DEMO_ROUTER      the dotted path of another router, for comparison
REPLICANT_DEMO_PIN         PIN_SECONDS, which must be longer than any copy is behind that has no positions
REPLICANT_DEMO_DEBUG       1 for Django's own error pages
"""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

BASE_DIR = Path(__file__).resolve().parent.parent
DEMO_FOLDER = Path(os.environ.get("REPLICANT_DEMO_FOLDER", BASE_DIR / "run" / "8000"))


def sqlite_databases(folder: Path) -> dict[str, dict[str, Any]]:
    """A primary and two replicas, as files; the replicator keeps the replicas up to date."""
    folder.mkdir(parents=True, exist_ok=True)
    engine = "django.db.backends.sqlite3"
    # WAL: readers and a writer do not wait for each other. IMMEDIATE: a transaction takes its place in the queue of
    # writers when it begins, as select_for_update would have it, and never fails half-way as "locked".
    writable = {
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
    }
    return {
        "default": {"ENGINE": engine, "NAME": str(folder / "primary.sqlite3"), "OPTIONS": writable},
        "replica1": {"ENGINE": engine, "NAME": str(folder / "replica1.sqlite3"), "TEST": {"MIRROR": "default"}},
        "replica2": {"ENGINE": engine, "NAME": str(folder / "replica2.sqlite3"), "TEST": {"MIRROR": "default"}},
    }


# replicant: from here

INSTALLED_APPS = ["replicant"]
MIDDLEWARE = ["replicant.middleware.ReplicaMiddleware"]
DATABASE_ROUTERS = [os.environ.get("REPLICANT_DEMO_ROUTER") or "replicant.ReplicaRouter"]
DATABASES = (
    json.loads(os.environ["REPLICANT_DEMO_DATABASES"])
    if "REPLICANT_DEMO_DATABASES" in os.environ
    else sqlite_databases(DEMO_FOLDER)
)
REPLICANT = {"default": {"REPLICAS": {"replica1": 2, "replica2": 1}}}

# replicant: to here

# SQLite counts no positions, so that only time tells whether a copy has what was written.
if "REPLICANT_DEMO_DATABASES" not in os.environ:
    REPLICANT["default"]["PIN_SECONDS"] = float(os.environ.get("REPLICANT_DEMO_PIN", 6))

INSTALLED_APPS += [
    "fansite",
    "boards",
    "banners",
    "shop",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

# The fan club's app logs in through OAuth. The demo does without, so that it needs nothing but Django.
HAS_API = all(find_spec(package) for package in ("oauth2_provider", "rest_framework"))
if HAS_API:
    INSTALLED_APPS += ["api", "oauth2_provider", "rest_framework"]
    # The library reads back the code that the browser was given, in a request of the app: another client's.
    REPLICANT["default"]["PRIMARY_ONLY"] = ["sessions", "django_cache", "oauth2_provider"]

MIDDLEWARE += [
    # Before all that asks the database, so that the bar misses nothing.
    "fansite.query_bar.QueryBarMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# A demo on loopback: everybody may know this key, and the password "demo".
SECRET_KEY = "the example project keeps no secrets, this one included"
DEBUG = os.environ.get("REPLICANT_DEMO_DEBUG") == "1"
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]

ROOT_URLCONF = "fansite.urls"
WSGI_APPLICATION = "fansite.wsgi.application"
ASGI_APPLICATION = "fansite.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "front"
LOGOUT_REDIRECT_URL = "front"
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "django_cache"},
}
USE_TZ = True
TIME_ZONE = "UTC"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {
        # An error's traceback goes to the terminal; a page that is not there is not an error.
        "django": {"handlers": ["console"], "level": "ERROR", "propagate": False},
        "django.server": {"handlers": ["console"], "level": "ERROR", "propagate": False},
        "replicant": {"handlers": ["console"], "level": "WARNING"},
    },
}
