import base64
import functools
from unittest import mock


def get_basic_auth_header(user, password):
    """The headers of a request by HTTP Basic authentication, as Django's test client takes them."""
    credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"HTTP_AUTHORIZATION": f"Basic {credentials}"}


def spy_on(method):
    """A method that does what ``method`` does, and whose ``spy`` saw with what it was called."""
    spy = mock.Mock()

    @functools.wraps(method)
    def spied(*args, **kwargs):
        spy(*args, **kwargs)
        return method(*args, **kwargs)

    spied.spy = spy
    return spied
