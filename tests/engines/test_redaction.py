"""The log tells no secret of the settings, however a driver spells it."""

from __future__ import annotations

import json
import logging
from urllib.parse import quote, quote_plus

import pytest
from django.db import OperationalError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from replicant.connections import causality
from replicant.engines import described
from tests.databases import use_databases

SPELLINGS = {
    "as it is": str,
    "repr": lambda secret: repr(secret)[1:-1],
    "repr of a repr": lambda secret: repr(repr(secret))[2:-2],
    "repr of bytes": lambda secret: repr(secret.encode())[2:-1],
    "ascii": lambda secret: ascii(secret)[1:-1],
    "JSON": lambda secret: json.dumps(secret)[1:-1],
    "URL": lambda secret: quote(secret, safe=""),
    "path of a URL": quote,
    "form": quote_plus,
    "URL in small letters": lambda secret: quote(secret, safe="").lower() if secret.islower() else secret,
    "SQL": lambda secret: secret.replace("'", "''"),
    "connection string": lambda secret: secret.replace("\\", r"\\").replace("'", r"\'"),
    "in one line": lambda secret: " ".join(secret.split()),
}
#: Not of letters that the rest of a message has.
SECRETS = st.text(st.sampled_from("QZ47ßé€🔑@:/%+'\"\\ \t\n&=#"), min_size=4, max_size=12).filter(
    lambda secret: any(letter in secret for letter in "QZ47")
)


@pytest.mark.parametrize("spelling", SPELLINGS)
@settings(deadline=None)
@given(secret=SECRETS)
@example(secret="two  spaces\tand\na line")
@example(secret="p@ss/w%rd+'\"\\")
def test_a_password_is_found_however_it_is_spelled(spelling: str, secret: str):
    told = SPELLINGS[spelling](secret).strip()
    error = OperationalError(f"cannot connect: <{told}> was refused")
    text = described(error, {"PASSWORD": secret})
    assert told not in text
    assert " ".join(told.split()) not in text
    assert text.startswith("OperationalError: cannot connect: <")
    assert text.endswith("> was refused")


@pytest.mark.parametrize(
    "options",
    [
        {"aws_secret": "hunter22"},
        {"ssl": {"key": "hunter22"}},
        {"options": "hunter22"},
        {"init_command": "hunter22"},
        {"list": ["x", ("hunter22",)]},
        {"token": b"hunter22"},
        {"PASSWD": "hunter22"},
    ],
)
@pytest.mark.parametrize("key", ["OPTIONS", "PROBE"])
def test_an_option_that_nobody_knows_is_a_secret(options: dict, key: str):
    assert described(OperationalError("no hunter22"), {key: options}) == "OperationalError: no ***"


def test_what_helps_is_told():
    database = {
        "ENGINE": "django.db.backends.mysql",
        "HOST": "db1",
        "NAME": "site",
        "USER": "application",
        "PASSWORD": "",
        "OPTIONS": {"charset": "utf8mb4", "sslmode": "require", "connect_timeout": 10, "x": "no", "empty": None},
    }
    error = OperationalError("no application@db1 for site: utf8mb4, require, 10")
    assert described(error, database) == "OperationalError: no application@db1 for site: utf8mb4, require, 10"


def test_a_secret_is_not_told_in_part():
    database = {"PASSWORD": "hunter", "OPTIONS": {"token": "hunter22"}}
    assert described(OperationalError("hunter22, hunter"), database) == "OperationalError: ***, ***"
    # Cut off where it is shown, after it was looked for.
    assert "hunt" not in described(OperationalError("x" * 280 + "hunter22"), database)


def test_a_password_that_is_blank_or_a_number():
    assert described(OperationalError("a b"), {"PASSWORD": "  "}) == "OperationalError: a b"
    assert described(OperationalError("no 4711"), {"PASSWORD": 4711}) == "OperationalError: no ***"


@pytest.mark.parametrize(
    "ask", [causality.query_position, causality.position, lambda alias: causality.wait(alias, None, 0.1)]
)
def test_what_cannot_be_asked_is_logged_without_secrets(ask, caplog: pytest.LogCaptureFixture):
    # The driver quotes a port that is no number.
    database = {"ENGINE": "django.db.backends.postgresql", "NAME": "x", "HOST": "127.0.0.1"}
    databases = {"default": {**database, "PORT": "hunter22", "PASSWORD": "hunter22"}}
    caplog.set_level(logging.DEBUG, "replicant")
    with use_databases(databases, REPLICANT={}):
        assert ask("default") is None
    assert "hunter22" not in caplog.text
    assert "***" in caplog.text
