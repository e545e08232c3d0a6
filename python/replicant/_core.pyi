"""The routing core, written in Rust."""

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Literal, Protocol, final

from typing_extensions import disjoint_base

__all__ = [
    "AT_ONCE",
    "AUTOCOMMIT_OFF",
    "AUTOCOMMIT_ON",
    "BEGINS",
    "COMMITS",
    "LOCKS",
    "ROLLS_BACK",
    "SESSION",
    "WRITES",
    "Cipher",
    "OpenSnapshot",
    "Position",
    "Record",
    "ReplicaRouter",
    "Scope",
    "ScopeNode",
    "__version__",
    "after_fork",
    "analyse",
    "causality",
    "changed_session",
    "configure",
    "draw_member",
    "explain",
    "generation",
    "has_written",
    "in_transaction",
    "invalidate",
    "is_behind",
    "is_to_remember",
    "keeps_ascii_apart",
    "load_mysql_client",
    "member_state",
    "mysql_session_state",
    "names_one_table",
    "observe",
    "oldest_age",
    "opened_beside_a_loop",
    "optimised",
    "owes_token",
    "pending_primaries",
    "pinned_answer",
    "position_received",
    "public_lookup",
    "record",
    "refusal",
    "remember",
    "report",
    "report_probes",
    "require",
    "reroute",
    "role",
    "run_command",
    "scope_variable",
    "seed",
    "server",
    "servers_swapped",
    "session_changed",
    "session_changes",
    "session_generation",
    "session_serves",
    "set_state",
    "snapshot",
    "spend_decision",
    "take_decision",
    "target_table",
    "text_transaction",
    "unwatch",
    "verb",
    "watch",
]
__version__: str
optimised: bool
"""Whether the extension was built with optimisation."""

WRITES: int
LOCKS: int
AT_ONCE: int
BEGINS: int
COMMITS: int
ROLLS_BACK: int
AUTOCOMMIT_OFF: int
AUTOCOMMIT_ON: int
SESSION: int

class ReplicaRouter:
    """A database router for ``settings.DATABASE_ROUTERS``, configured by ``settings.REPLICANT``.

    Raises ``ImproperlyConfigured``, with the text of ``manage.py check``, if the settings cannot be used.
    """

    def __new__(cls, *_args: Any, **_kwargs: Any) -> ReplicaRouter: ...
    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        """The alias that a read of ``model`` goes to; None if ``model`` belongs to no cluster, or if
        ``hints["instance"]`` was loaded from outside the model's cluster.

        Raises ``NoReplicaAvailable`` if no replica may serve the read and the cluster's policy keeps it off the
        primary.
        """

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        """The primary of the model's cluster; None in the same cases as for a read."""

    def allow_relation(self, obj1: Any, obj2: Any, **_hints: Any) -> bool | None:
        """True if both objects come from members of one cluster, None otherwise."""

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool | None:
        """False on a replica, and for a model on a primary other than its cluster's; None otherwise.

        Does not raise ``ImproperlyConfigured``, because ``manage.py check`` calls it while it collects the problems.
        """

@final
class ScopeNode:
    """An entered scope with all the scopes around it. To be inside all of them, set ``scope_variable`` to this node."""

    @property
    def in_request(self) -> bool:
        """Whether one of these scopes is a request scope."""

@disjoint_base
class Scope:
    """A scope that can be entered: ``"request"``, ``"migrate"``, ``"use_primary"`` or ``"use_replica"``."""

    def __new__(
        cls,
        kind: str,
        alias: str | None = None,
        stale_ok: bool = False,
    ) -> Scope: ...
    def fresh(self) -> Scope:
        """Another scope of the same kind, with its own identity when it is left or resumed."""

    def enter(self) -> None:
        """Enter the scope in the current context. Raises ``ImproperlyConfigured`` if no cluster has the alias."""

    def resume(self, suspended: ScopeNode | None) -> None:
        """Enter the scope again, with all scopes that were open inside it when ``suspended`` was the innermost scope;
        None at the first time."""

    def leave(self) -> None:
        """Leave the scope; scopes that were entered since and are still open stay open."""

@final
class Record:
    """The identity of a write record: of a request, or of a thread or task without an open request. Two records are
    equal if they are the same one."""

    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def wrote(self, alias: str, position: Position | None = None) -> None:
        """Record that a write to the primary ``alias`` has become visible to other sessions, at ``position``; None if
        the position is not queried yet, or there is none. Other aliases are ignored."""

@final
class OpenSnapshot:
    """A transaction on a replica, open from the creation of this object until it is dropped.

    The snapshot of the transaction stays as old as it is. Therefore the requirement of the scope at its beginning does
    not end before the transaction, whichever thread of the scope reads.
    """

    def __new__(cls, alias: str) -> OpenSnapshot: ...

@final
class Cipher:
    """Encrypts and authenticates texts under one key: XChaCha20-Poly1305, with the key derived by HKDF-SHA256.

    ``secret``: the site's secret, of any length. ``purpose``: the purpose of the key; different purposes give different
    keys.
    """

    def __new__(cls, secret: bytes, purpose: bytes) -> Cipher: ...
    def seal(self, nonce: bytes, header: bytes, text: bytes) -> bytes:
        """``text`` encrypted, followed by a tag of 16 bytes that authenticates it together with ``header``.

        ``nonce``: 24 bytes, drawn at random for each text. Raises ``ValueError`` for a nonce of another length.
        """

    def open(self, nonce: bytes, header: bytes, sealed: bytes) -> bytes | None:
        """The text that was sealed; None if the key, the nonce, the header or the sealed text is wrong.

        Raises ``ValueError`` for a nonce of another length.
        """

@final
class Position:
    """A replication position, as the engine counts it. Immutable, hashable, picklable; cheap to pass around.

    ``kind``: ``"mysql"`` (a GTID set, ``"3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7:tag:3"``), ``"mariadb"`` (the last
    GTID of each domain, ``"0-1-5,2-3-7"``) or ``"postgresql"`` (timeline and LSN, ``"1:0/16B3748"``).
    ``text``: the position as the server prints it, in any order, letter case and spacing. For MySQL and MariaDB the
    empty text is the position of a server without any transaction, which every position of its kind contains.

    Raises ``ValueError``, with the text and the reason, for a wrong text. Also raises it for a form that a server
    accepts but never prints, for more than 1 MiB, and for more than 8192 intervals or domains.

    ``str()`` is the canonical text, in one line; equal positions have equal texts.
    """

    def __new__(cls, kind: str, text: str) -> Position: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __getnewargs__(self) -> tuple[str, str]: ...
    @property
    def kind(self) -> Literal["mysql", "mariadb", "postgresql"]:
        """The engine that counts positions of this kind."""

    def contains(self, other: Position) -> bool:
        """Whether a server at this position has all data of a server at ``other``; False if they cannot be compared."""

    def comparable(self, other: Position) -> bool:
        """Whether the two positions can be compared.

        False for two kinds, for two PostgreSQL timelines, and for two MariaDB positions with the same sequence number
        from different servers in one domain: these are two transactions, and no server has both.
        """

    def union(self, other: Position) -> Position:
        """The least position that contains both.

        Raises ``ValueError`` if they cannot be compared, or if the union would have more than 8192 intervals or
        domains.
        """

    def shortened(self, limit_bytes: int) -> Position | None:
        """An equal or larger position with a text of at most ``limit_bytes`` bytes; None if there is no such position.

        A larger position requires more than necessary, never less. Only a GTID set can be shortened: the gaps between
        its intervals are closed, the narrowest first.
        """

class _Cluster(Protocol):
    """The attributes of ``replicant.conf.Cluster``."""

    @property
    def primary(self) -> str: ...

scope_variable: ContextVar[ScopeNode | None]
"""Holds the innermost scope."""

def record() -> Record:
    """The write record in force here. Without an open request, a record begins now and belongs to this thread or
    task."""

def configure(clusters: Iterable[_Cluster], generation: int) -> bool:
    """Bring clusters into force, unless the settings have changed since they were read, under ``generation``.

    The knowledge about members that existed before is kept. Returns whether the clusters are in force.
    """

def invalidate() -> None:
    """Record that the settings have changed: the next call that needs them reads them again."""

def generation() -> int:
    """The generation of the configuration in force; it changes with every change of the configuration."""

def role(alias: str) -> Literal["primary", "replica"] | None:
    """The role of ``alias``; None if it is a member of no cluster."""

def set_state(alias: str, state: str) -> str:
    """Set the state of a member (``"up"``, ``"lagging"``, ``"ejected"``, ``"probing"``, ``"down"``), regardless of the
    results of reads and probes. ``"up"`` ends this, and forgets the earlier results.

    Returns the state before. Raises ``ValueError`` for an unknown alias or state.
    """

def report(alias: str, seconds: float | None, outcome: str) -> list[tuple[str, str, str, str]]:
    """Report the outcome of a read from ``alias``: ``"ok"``, ``"failed"``, or ``"gone"`` if the server refused the
    connection or did not answer in time. Call it only through :func:`replicant.connections.observations.report`.

    ``seconds``: the time until the answer, None if that time says more about the statement than about the server.
    Returns the members with a changed state: the cluster's primary, the alias, the state before and now. An alias of
    no cluster is ignored. Raises ``ValueError`` for another outcome.
    """

def report_probes(
    results: Iterable[tuple[str, str, int, float, tuple[Position | None, str] | None]],
) -> tuple[list[tuple[str, str, str, str]], list[str]]:
    """Report the results of probes: alias, outcome as for :func:`report`, ``time.monotonic_ns()`` before the query, the
    seconds that it took, and the server's position and name if they count.

    Returns what :func:`report` does, and the aliases that lead to another server than before. Aliases of no cluster are
    ignored.
    """

def servers_swapped(primary: str, sources: Mapping[str, str]) -> None:
    """Report that the server behind each key of ``sources`` (an alias of the cluster of ``primary``) is now the server
    that was behind the alias in its value. The knowledge about a server moves with the server. Raises ``ValueError`` if
    two aliases would have the same server."""

def watch() -> None:
    """Start the monitor if no monitor watches the present configuration, as the first routed read does."""

def unwatch() -> None:
    """Make the next routed read start the monitor: no monitor watches this configuration, or this process, yet."""

def observe(answers: Iterable[tuple[str, Position | None, int, str]]) -> list[str]:
    """Take in the answers of members: alias, position, ``time.monotonic_ns()`` before the query, server.

    The member has contained at least the position since the query was sent. Returns the aliases that now have a
    different server. Aliases of no cluster are ignored.
    """

def session_serves(alias: str, server: str, position: Position | None, is_other: bool) -> bool:
    """Whether a session may serve the current scope. The session is with the server behind the replica ``alias``, which
    identified itself as ``server`` and reported ``position``.

    Judges a read that the router sent there. Judges any other statement only if ``is_other``: the session showed that
    the server behind the alias is not the same as before, or has lost data. The scope must then see elsewhere the data
    that it may have seen on the former server.
    """

def session_generation() -> int:
    """A value that changes when sessions may have to be checked again before use: after a change of the configuration,
    or of the server behind an alias."""

def is_behind(alias: str, server: str) -> bool:
    """Whether ``server`` is the server that is known to be behind ``alias``; also true if that server is not known, or
    if several servers are behind the alias."""

def pending_primaries() -> list[tuple[str, int]]:
    """The primaries from which the position must be queried before :func:`causality` is complete, and the time."""

def position_received(primary: str, position: Position | None, asked_at: int) -> None:
    """Give the current scope the position of a primary, which was queried after ``asked_at``; None if the primary could
    not tell it."""

def causality() -> list[tuple[str, Position | None, float | None, str | None, float | None, int | None, bool]]:
    """The requirements of the current scope from its writes and reads, cluster by cluster.

    Each one has the primary's alias, the position, the age of the last write that only time can judge, the member last
    read from, the age of that read, the server behind that member, and whether a read has waited for the position in
    vain; ages are in seconds.
    """

def draw_member(primary: str) -> str | None:
    """The member that the client of a write reads from next, chosen by weight; None if scopes are not sticky, or if no
    member may serve."""

def oldest_age() -> float:
    """The largest age that this process can represent, in seconds: it stands for all larger ages."""

def owes_token() -> bool:
    """Whether the client of the current scope needs a token for the scope's requirements: the scope wrote, or it
    presented a token itself."""

def server(alias: str) -> int | None:
    """An integer that identifies the server behind ``alias``, the same in every process on the same servers; None if
    the server is not known."""

def has_written() -> bool:
    """Whether the current scope wrote, as opposed to a scope that only knows of writes."""

def require(
    primary: str,
    position: Position | None = None,
    written: float | None = None,
    member: str | None = None,
    read: float | None = None,
    known: float = 0.0,
    received: float = 0.0,
    *,
    is_same: bool = False,
    missed: bool = False,
    presented: bool = False,
) -> None:
    """Add to the requirements of the current scope, in the terms of :func:`causality`. An alias of no cluster is
    ignored.

    ``known`` is how many seconds ago the position was known, ``received`` how many seconds ago it arrived here.
    ``member`` without ``read`` is the member to read from first. ``is_same``: the server behind ``member`` is known to
    be the server of the earlier read. ``presented``: the scope itself presents this requirement, not its client.
    """

def seed(seed: int | None = None) -> None:
    """Seed this thread's random generator, for repeatable tests; None lets the operating system seed it again."""

def after_fork() -> None:
    """Reseed in a forked child: its random choices must not repeat those of its parent."""

def explain(model: Any, hints: dict[str, Any]) -> tuple[str | None, str | None, tuple[str, ...]]:
    """The router's answer if ``model`` were read now: the alias, the reason, and the eligible replicas."""

def reroute(alias: str, failed: list[str]) -> str | None:
    """The alias to which a read of the cluster of ``alias`` is rerouted, after it failed on the members ``failed``.

    None for an alias of no cluster. The current scope moves to the new member.

    Raises ``NoReplicaAvailable`` as :meth:`ReplicaRouter.db_for_read` does.
    """

def pinned_answer(alias: str) -> str | None:
    """The string object of the router's last answer on this thread, if only the primary ``alias`` may serve that read.

    None if another member may serve the read, or if no replica serves stale data. Each such answer is a separate
    object, so that the statement that is sent for it can be recognised by the object's identity.
    """

def spend_decision() -> None:
    """Record that the read of this thread's last decision was sent: a later statement without a decision is another
    read."""

def member_state(alias: str) -> Literal["up", "lagging", "ejected", "probing", "down"] | None:
    """The known state of the member behind ``alias``; None for an alias of no cluster."""

def snapshot() -> dict[str, list[dict[str, Any]]]:
    """Every cluster and member, as plain data."""

def take_decision() -> tuple[str, str] | None:
    """This thread's last decision, once: the alias and the reason (``"write"`` for a write), or None if it was already
    taken."""

def is_to_remember(alias: str) -> bool:
    """Whether this thread or task must remember that ``alias`` serves the read that is about to be sent.

    True if no open scope remembers it, and the router sent the read there.
    """

def remember(alias: str) -> None:
    """Record that this thread or task has read from ``alias``."""

def run_command(runs: bool) -> bool:
    """Record that a management command begins or ends. Returns whether a command ran before; at the end, the caller
    must pass that value back."""

def in_transaction(alias: str) -> bool:
    """Whether this thread's connection to ``alias`` is in a transaction. Opens no connection."""

def opened_beside_a_loop() -> None:
    """Record that a connection was opened in a thread that runs an event loop. From then on, the core looks up the
    connections of such threads with care."""

def public_lookup(force: bool | None = None) -> bool:
    """Force (or no longer force) the public lookup of connections; returns whether it is in use. For tests."""

def text_transaction(open: bool | None = None) -> int:
    """Count one more (or one fewer) connection with a transaction that was sent as text; returns the count."""

def changed_session(alias: str) -> bool:
    """Whether a statement changed the session of this thread's connection to ``alias`` so that a read has another
    meaning there. Opens no connection."""

def session_changed(changed: bool | None = None) -> int:
    """Count one more (or one fewer) connection with a session that was changed so that a read has another meaning
    there; returns the count."""

def session_changes(sql: str, vendor: str, allowed: list[str] = ...) -> list[tuple[str, str, bool]]:
    """The changes that a statement makes to its session, in order.

    Each change is an action, the setting in lower case (or the kind of object that is held), and whether later reads
    may have another meaning. The actions: ``"set"``, ``"local"`` (until the transaction ends), ``"reset"``,
    ``"reset_all"``, ``"hold"``, ``"release"``, ``"release_all"``, ``"discard"`` (the session is like a new one) and
    ``"back"`` (to a savepoint). A setting that the text does not show is ``"?"``: CALL and EXECUTE may set anything,
    except for the procedures in ``allowed``.
    """

def target_table(sql: str, vendor: str) -> list[str] | None:
    """The table that an INSERT, REPLACE, UPDATE or DELETE writes to, as the parts of its name; None for any other
    statement. Parses the text only up to that name."""

def names_one_table(sql: str, vendor: str) -> bool:
    """Whether a statement with a target table names no other table, and calls no function that might use one."""

def verb(sql: str, vendor: str) -> str:
    """The first word of a statement, in capitals; empty if it does not begin with a word."""

def analyse(sql: str, vendor: str) -> int:
    """The effects of a statement, as a sum of flags.

    ``vendor`` is Django's ``connection.vendor``, or "mariadb" if the server is known to be MariaDB.

    ``WRITES``: the statement is not surely a read. ``LOCKS``: it takes row locks. ``AT_ONCE``: its writes may be
    committed at once, even inside a transaction. ``BEGINS``: a transaction is open after it. ``COMMITS`` and
    ``ROLLS_BACK``: it ends a transaction. ``AUTOCOMMIT_OFF`` and ``AUTOCOMMIT_ON``: it sets the server's own
    autocommit. ``SESSION``: :func:`session_changes` may find changes.
    """

def refusal(sql: str, vendor: str, allowed: list[str] = ...) -> tuple[str, str | None] | None:
    """The reason why a statement may not be sent to a replica; None if it is surely a read, or affects only its
    session.

    Returns the verb or construct, for messages, and the function of unknown effect if that function is the only reason.
    ``vendor`` is the same as for :func:`analyse`; ``allowed`` are functions, in lower case, that are known only to
    read.
    """

def keeps_ascii_apart(character_set: str, vendor: str) -> bool:
    """Whether each ASCII byte is a separate character in a character set, which is given by the server's name for it.

    In GBK, Big5 and Shift JIS a backslash may be the second byte of a character.
    """

def load_mysql_client(path: str) -> bool:
    """Find the functions of mysqlclient's client library, through mysqlclient's extension at ``path``, which must be
    loaded. Returns whether all of them exist."""

def mysql_session_state(connection: Any, variable: bytes | None = None) -> bytes | None:
    """The report in the last answer on mysqlclient's ``connection``: the GTIDs of the committed transactions, or the
    new value of the named ``variable``. Empty if the answer reported nothing; None if it cannot be read, because the
    answer was an error, a result set, or the first of several.

    Raises the driver's error if the connection is closed, and ``RuntimeError`` if ``load_mysql_client`` has not
    succeeded.
    """
