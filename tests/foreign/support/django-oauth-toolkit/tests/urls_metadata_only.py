"""The documents that describe the server, and nothing of what they describe."""

from django.urls import include, path
from oauth2_provider.urls import app_name, metadata_urlpatterns

urlpatterns = [path("", include((metadata_urlpatterns, app_name)))]
