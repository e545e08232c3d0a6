from __future__ import annotations

from django import forms

from banners.models import Banner


class BannerForm(forms.ModelForm):
    class Meta:
        model = Banner
        fields = ("title", "text", "colour")
        widgets = {"colour": forms.RadioSelect}  # noqa: RUF012 - Django's own way
