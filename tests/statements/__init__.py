"""Statements that a replica must not get, and such as it must, for each engine; on the tables of ``tests.app``."""

from tests.statements.hostile import HOSTILE
from tests.statements.reads import READS

__all__ = ["HOSTILE", "READS"]
