"""The example project under load while its replicas are killed, stopped and held up: ``make storm``."""
