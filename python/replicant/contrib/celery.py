"""Tasks see what their senders had written and read: add ``"replicant.contrib.celery"`` to ``INSTALLED_APPS``.

The sender's token travels as a header of the task's message; the worker opens a request scope around the task, and that
scope requires the token. Tokens also go through retries and chains, one link at a time: each task of a chain sees what
the task before it wrote. The body of a chord sees what the last task of its header wrote, but may miss what the other
tasks wrote.

A task that is queued inside a transaction may run before the commit. It then reads from the primary for
``PIN_SECONDS``, but no server can show uncommitted data: use ``delay_on_commit``.

With ``task_always_eager``, or ``apply()``, no message is sent, and the task runs in the scope of its caller.
"""

from __future__ import annotations

from typing import Any

from celery import signals

from replicant.tokens import After, after, token

#: The header, and the attribute of ``task.request`` that Celery makes of it.
HEADER = "replicant_token"
_SCOPE = "_replicant_scope"


def _publish(*, headers: dict[str, Any] | None = None, **kwargs: Any) -> None:
    # A retry copies the headers of the previous message. The new token replaces that token and contains it, because the
    # scope of this task required it.
    if headers is not None and (sent := token()):
        headers[HEADER] = sent


def _enter(*, task: Any, **kwargs: Any) -> None:
    if task.request.is_eager:
        return
    sent = task.request.get(HEADER)
    scope = after(sent if isinstance(sent, str) else "")
    scope.__enter__()
    setattr(task.request, _SCOPE, scope)


def _leave(*, task: Any, **kwargs: Any) -> None:
    scope: After | None = task.request.__dict__.pop(_SCOPE, None)
    if scope is not None:
        scope.__exit__(None, None, None)


signals.before_task_publish.connect(_publish, dispatch_uid="replicant.publish")
signals.task_prerun.connect(_enter, dispatch_uid="replicant.enter")
signals.task_postrun.connect(_leave, dispatch_uid="replicant.leave")
