from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models


class Tag(models.Model):
    name = models.CharField(max_length=100)


class Note(models.Model):
    content_type = models.ForeignKey(ContentType, on_delete=models.CASCADE)
    object_id = models.BigIntegerField()
    about = GenericForeignKey()
    text = models.CharField(max_length=100)


class Item(models.Model):
    name = models.CharField(max_length=100)
    tags = models.ManyToManyField(Tag)
    notes = GenericRelation(Note)


class Piece(models.Model):
    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="pieces")
    name = models.CharField(max_length=100)


class Account(models.Model):
    """Exempt wherever a test says so."""

    owner = models.CharField(max_length=100)
    balance = models.IntegerField(default=0)


class ItemProxy(Item):
    class Meta:
        proxy = True
