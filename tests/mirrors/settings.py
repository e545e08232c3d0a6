"""Django's settings, with the databases that the test which starts the process decides in the environment, as JSON."""

import json
import os

from tests.settings import *  # noqa: F403

DATABASES = json.loads(os.environ["REPLICANT_TEST_DATABASES"])
# The strictest policy: what no replica may serve must not be an error in tests all the same.
REPLICANT = {"default": {"REPLICAS": ["replica1", "replica2"], "ON_UNAVAILABLE": "error"}}
STATIC_URL = "static/"
