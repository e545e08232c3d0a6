"""Models that may be put in the place of the package's own."""

import uuid

from django.conf import settings
from django.db import models
from oauth2_provider.models import (
    AbstractAccessToken,
    AbstractApplication,
    AbstractDeviceGrant,
    AbstractGrant,
    AbstractRefreshToken,
)


class SampleApplication(AbstractApplication):
    custom_field = models.CharField(max_length=255)


class SampleAccessToken(AbstractAccessToken):
    custom_field = models.CharField(max_length=255)
    id_token = models.OneToOneField(
        "oauth2_provider.IDToken", models.CASCADE, null=True, blank=True, related_name="sample_access_token"
    )
    source_refresh_token = models.OneToOneField(
        "SampleRefreshToken", models.SET_NULL, null=True, blank=True, related_name="refreshed_access_token"
    )


class SampleRefreshToken(AbstractRefreshToken):
    custom_field = models.CharField(max_length=255)
    access_token = models.OneToOneField(
        SampleAccessToken, models.SET_NULL, null=True, blank=True, related_name="refresh_token"
    )


class SampleGrant(AbstractGrant):
    custom_field = models.CharField(max_length=255)


class SampleDeviceGrant(AbstractDeviceGrant):
    custom_field = models.CharField(max_length=255)


class CustomPkAccessToken(AbstractAccessToken):
    """Whose primary key is not called ``id``."""

    id = None
    custom_pk = models.UUIDField(primary_key=True, default=uuid.uuid4)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="custom_pk_access_token"
    )
    id_token = models.OneToOneField(
        "oauth2_provider.IDToken", models.CASCADE, null=True, blank=True, related_name="custom_pk_access_token"
    )
    source_refresh_token = models.OneToOneField(
        "CustomPkRefreshToken", models.SET_NULL, null=True, blank=True, related_name="refreshed_access_token"
    )


class CustomPkRefreshToken(AbstractRefreshToken):
    """Whose primary key is not called ``id``."""

    id = None
    custom_pk = models.UUIDField(primary_key=True, default=uuid.uuid4)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="custom_pk_refresh_token")
    access_token = models.OneToOneField(
        CustomPkAccessToken, models.SET_NULL, null=True, blank=True, related_name="refresh_token"
    )
