"""Other people's test suites, run without us and with our router in place: ``make test-foreign``.

A suite comes from its source distribution and is run in a virtual environment of its own, twice: as it is, and with a
mirrored replica, the router, and every test that may use ``default`` allowed to use the replica too. What fails only
with us is a defect of ours or has its cause in ``explained.py``; ``docs/foreign-suites.md`` is the table.
"""
