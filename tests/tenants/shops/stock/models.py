from django.db import models


class Ware(models.Model):
    """One of a tenant's own."""

    name = models.CharField(max_length=100)
