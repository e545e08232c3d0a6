"""Django's settings, with what the test that starts the process decides in the environment, as JSON."""

import json
import os

from tests.settings import *  # noqa: F403

locals().update(json.loads(os.environ["REPLICANT_TEST_SETTINGS"]))
ROOT_URLCONF = "tests.workers.site"
ALLOWED_HOSTS = ["*"]
