"""The site, in a process of its own: prints its port, and serves until its input ends."""

from __future__ import annotations

import sys
import threading

import django
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    django.setup()
    if sys.argv[1:] == ["seed"]:
        _seed()
        return
    from fansite.wsgi import application  # type: ignore[import-not-found]

    server = ThreadedWSGIServer(("127.0.0.1", 0), _Quiet)
    server.daemon_threads = True
    server.set_app(application)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


def _seed() -> None:
    """The tables, the demo data, and members that can log in."""
    from django.apps import apps
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.core.management import call_command

    # From the models as they are, which takes a tenth of the time.
    settings.MIGRATION_MODULES = {app.label: None for app in apps.get_app_configs()}
    call_command("migrate", verbosity=0, interactive=False, run_syncdb=True)
    call_command("seed")
    for number in range(int(sys.stdin.read() or 0)):
        User.objects.create_user(f"visitor{number}", password="visitor")


if __name__ == "__main__":
    main()
