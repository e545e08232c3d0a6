from django.test import TestCase, TransactionTestCase


class OAuth2ProviderTestCase(TestCase):
    """With the databases that there are: ``default``."""


class OAuth2ProviderTransactionTestCase(TransactionTestCase):
    """With the databases that there are: ``default``."""
