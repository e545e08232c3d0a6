"""Test cases with ``serialized_rollback``.

For themselves: Django cannot restore the content types once another case's teardown has made new ones.
"""

from __future__ import annotations

from django.contrib.auth.models import Permission
from django.test import TransactionTestCase


class StartsWithMigratedRows(TransactionTestCase):
    databases = "__all__"
    serialized_rollback = True

    def check_and_delete(self) -> None:
        assert Permission.objects.get(codename="add_item")._state.db in ("replica1", "replica2")
        Permission.objects.all().delete()
        assert not Permission.objects.exists()

    def test_migrated_rows_are_there(self):
        self.check_and_delete()

    def test_and_they_are_there_again(self):
        self.check_and_delete()
