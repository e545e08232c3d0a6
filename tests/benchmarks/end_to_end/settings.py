"""The example project's settings for a benchmark: without its query bar, and replicant only where that is measured."""

from fansite.settings import *  # type: ignore[import-not-found]  # noqa: F403
from fansite.settings import DATABASE_ROUTERS, DATABASES, INSTALLED_APPS, MIDDLEWARE, REPLICANT

# Everybody knows the password, and a slow hash would take longer than most visits.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
if "replica3" in DATABASES:
    REPLICANT["default"]["REPLICAS"]["replica3"] = 1

MIDDLEWARE = [name for name in MIDDLEWARE if not name.startswith("fansite.query_bar.")]
if DATABASE_ROUTERS != ["replicant.ReplicaRouter"]:
    # What replicant hooks into connections would count for the others.
    INSTALLED_APPS = [name for name in INSTALLED_APPS if name != "replicant"]
    MIDDLEWARE = [name for name in MIDDLEWARE if not name.startswith("replicant.")]
