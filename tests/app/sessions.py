"""Sessions in a table of their own; which one, only the checks ask."""

from django.contrib.sessions.backends.db import SessionStore as DatabaseStore


class SessionStore(DatabaseStore):
    @classmethod
    def get_model_class(cls):
        from tests.app.models import Account

        return Account
