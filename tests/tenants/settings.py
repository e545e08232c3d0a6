"""Settings of a site with django-tenants. The databases come from the environment, as JSON."""

import json
import os

DATABASES = json.loads(os.environ["TENANT_DATABASES"])
REPLICANT = json.loads(os.environ["TENANT_REPLICANT"])
ORIGINAL_BACKEND = os.environ["TENANT_ORIGINAL_BACKEND"]
TENANT_LIMIT_SET_CALLS = os.environ.get("TENANT_LIMIT_SET_CALLS") == "1"
DATABASE_ROUTERS = ["replicant.ReplicaRouter", "django_tenants.routers.TenantSyncRouter"]
SHARED_APPS = ["django_tenants", "tests.tenants.shops", "django.contrib.contenttypes", "replicant"]
TENANT_APPS = ["tests.tenants.shops.stock", "django.contrib.contenttypes"]
INSTALLED_APPS = [*SHARED_APPS, "tests.tenants.shops.stock"]
MIDDLEWARE = [
    "replicant.middleware.ReplicaMiddleware",
    "django_tenants.middleware.main.TenantMainMiddleware",
]
TENANT_MODEL = "shops.Shop"
TENANT_DOMAIN_MODEL = "shops.Domain"
ROOT_URLCONF = "tests.tenants.urls"
ALLOWED_HOSTS = ["*"]
SECRET_KEY = "for tests alone"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
