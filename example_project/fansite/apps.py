from django.apps import AppConfig


class FansiteConfig(AppConfig):
    name = "fansite"
