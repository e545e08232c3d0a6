"""OpenID Connect's own description, and nothing of what it describes."""

from django.urls import include, path
from oauth2_provider.urls import app_name, oidc_urlpatterns

discovery = [pattern for pattern in oidc_urlpatterns if pattern.name == "oidc-connect-discovery-info"]
urlpatterns = [path("", include((discovery, app_name)))]
