from __future__ import annotations

from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils import timezone


class Banner(models.Model):
    class Colour(models.TextChoices):
        SEA = "sea", "Sea"
        MOSS = "moss", "Moss"
        PLUM = "plum", "Plum"
        BRICK = "brick", "Brick"

    title = models.CharField(max_length=60)
    text = models.CharField(max_length=160)
    colour = models.CharField(max_length=10, choices=Colour.choices, default=Colour.SEA)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="banners")
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("-pk",)

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("banner", args=[self.pk])
