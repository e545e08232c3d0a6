"""The app that the fan club hands out: a public client, which can keep no secret and proves itself by PKCE."""

from __future__ import annotations

from oauth2_provider.models import get_application_model

CLIENT_ID = "lantern-app"
REDIRECT_URI = "http://localhost/app/"


def register_app() -> None:
    application = get_application_model()
    application.objects.create(
        client_id=CLIENT_ID,
        name="The Lantern Keepers, in your pocket",
        client_type=application.CLIENT_PUBLIC,
        authorization_grant_type=application.GRANT_AUTHORIZATION_CODE,
        redirect_uris=REDIRECT_URI,
    )
