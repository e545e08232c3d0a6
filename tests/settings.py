"""Django's settings for the suite. Databases are chosen by the tests; see ``tests.databases``."""

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    "replicant",
    "tests.app",
    "tests.consistency",
    "tests.features",
    "mptt",
    "polymorphic",
    "tests.graphs",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DATABASE_ROUTERS = ["replicant.ReplicaRouter"]
MIDDLEWARE = ["replicant.middleware.ReplicaMiddleware"]
ROOT_URLCONF = "tests.app.urls"
SECRET_KEY = "for tests alone"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
# The admin is used by tests.features alone, which has the middleware and the context processors that it wants.
SILENCED_SYSTEM_CHECKS = [f"admin.{id}" for id in ("E402", "E403", "E404", "E408", "E409", "E410", "W411")]
