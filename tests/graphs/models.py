from django.db import models
from mptt.models import MPTTModel, TreeForeignKey
from polymorphic.models import PolymorphicModel


class Event(models.Model):
    happened = models.DateTimeField()
    title = models.CharField(max_length=100)


class Animal(PolymorphicModel):
    name = models.CharField(max_length=100)


class Dog(Animal):
    trick = models.CharField(max_length=100, default="")


class Node(MPTTModel):
    name = models.CharField(max_length=100)
    parent = TreeForeignKey("self", on_delete=models.CASCADE, null=True, blank=True, related_name="children")
