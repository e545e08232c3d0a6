from django.db import models


class Register(models.Model):
    """A value that many write. Each write puts a number of its own there, so that a read tells whose write it saw."""

    name = models.CharField(max_length=10, primary_key=True)
    value = models.BigIntegerField()
