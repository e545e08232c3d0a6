"""What a decision costs, beside everything that could stand in its place. ``python -m tests.benchmarks --help``.

Nothing here is imported by the test suite but :mod:`tests.benchmarks.gate`. Results go to ``target/bench/``.
"""
