"""The settings of the suite that FOREIGN_SETTINGS names, arranged."""

import importlib
import os

from foreign_arrange import arrange

_suite = importlib.import_module(os.environ["FOREIGN_SETTINGS"])
globals().update({name: value for name, value in vars(_suite).items() if name.isupper()})
arrange(globals())
