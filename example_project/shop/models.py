from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone


class EmoticonSet(models.Model):
    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=60)
    price = models.PositiveIntegerField(help_text="In coins.")
    emoticons = models.CharField(max_length=200, help_text="Separated by spaces.")

    class Meta:
        ordering = ("price", "name")

    def __str__(self) -> str:
        return self.name

    @property
    def faces(self) -> list[str]:
        return self.emoticons.split()


class Wallet(models.Model):
    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, related_name="wallet")
    coins = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.user}: {self.coins} coins"


class Purchase(models.Model):
    wallet = models.ForeignKey(Wallet, models.CASCADE, related_name="purchases")
    emoticon_set = models.ForeignKey(EmoticonSet, models.PROTECT, related_name="purchases")
    price = models.PositiveIntegerField(help_text="What was paid, in coins.")
    paid = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("-paid", "-pk")
        constraints = (models.UniqueConstraint(fields=["wallet", "emoticon_set"], name="one_of_each_set"),)

    def __str__(self) -> str:
        return f"{self.emoticon_set} for {self.price} coins"
