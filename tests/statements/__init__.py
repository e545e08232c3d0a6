"""Statements that a replica must not get, and such as it must, for each engine; on the tables of ``tests.app``."""

from tests.statements import field, hostile, reads

HOSTILE = {engine: [*statements, *field.ATTACKS[engine]] for engine, statements in hostile.HOSTILE.items()}
READS = {engine: [*statements, *field.SAFE[engine]] for engine, statements in reads.READS.items()}

__all__ = ["HOSTILE", "READS"]
