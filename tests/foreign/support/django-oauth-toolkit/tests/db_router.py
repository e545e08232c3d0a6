"""Routers that disagree about where tokens are written."""


class AlphaRouter:
    def db_for_write(self, model, **hints):
        return "alpha"


class CrossDatabaseRouter:
    def db_for_write(self, model, **hints):
        return "beta" if model._meta.model_name == "accesstoken" else None
