"""The site's settings after a third replica has joined. Nothing but settings: see story.py."""

from __future__ import annotations

import json
import os

from fansite.settings import *  # noqa: F403
from fansite.settings import DATABASES, REPLICANT

DATABASES["replica3"] = json.loads(os.environ["REPLICANT_DEMO_THIRD_REPLICA"])
REPLICANT["default"]["REPLICAS"]["replica3"] = 1
