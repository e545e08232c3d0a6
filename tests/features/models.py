from django.contrib.contenttypes.fields import GenericRelation
from django.db import models

from tests.app.models import Note, Tag


class Author(models.Model):
    name = models.CharField(max_length=100, unique=True)

    def __str__(self) -> str:
        return self.name


class OnReplica1(models.Manager):
    def get_queryset(self) -> models.QuerySet:
        return super().get_queryset().using("replica1")


class Book(models.Model):
    author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="books")
    title = models.CharField(max_length=100)
    stock = models.IntegerField(default=0)
    tags = models.ManyToManyField(Tag, blank=True)
    notes = GenericRelation(Note)

    objects = models.Manager()
    on_replica1 = OnReplica1()

    class Meta:
        constraints = (models.UniqueConstraint(fields=["author", "title"], name="one_title_per_author"),)

    def __str__(self) -> str:
        return self.title


class Chapter(models.Model):
    book = models.ForeignKey(Book, on_delete=models.CASCADE, related_name="chapters")
    title = models.CharField(max_length=100)

    class Meta:
        ordering = ("title",)

    def __str__(self) -> str:
        return self.title


class Review(models.Model):
    book = models.ForeignKey(Book, on_delete=models.SET_NULL, null=True, related_name="reviews")
    text = models.CharField(max_length=100)


class Novel(Book):
    genre = models.CharField(max_length=100)


class BookProxy(Book):
    class Meta:
        proxy = True
