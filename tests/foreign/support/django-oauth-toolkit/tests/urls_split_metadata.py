"""As the documentation of the package advises: what describes the server at the root, the rest below ``o/``."""

from django.urls import include, path
from oauth2_provider.urls import app_name, metadata_urlpatterns

urlpatterns = [
    path("o/", include("oauth2_provider.urls")),
    path("", include((metadata_urlpatterns, app_name))),
]
