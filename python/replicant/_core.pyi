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
    "elsewhere",
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
    "moved",
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
    "role",
    "run_command",
    "scope_variable",
    "seed",
    "server",
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
        """The alias a read of ``model`` goes to; None if ``model`` belongs to no cluster, or ``hints["instance"]`` was
        loaded from outside of its cluster.

        Raises ``NoReplicaAvailable`` if no replica may serve it and the cluster's policy keeps it off the primary.
        """

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        """The primary of the model's cluster; None in the same cases as for a read."""

    def allow_relation(self, obj1: Any, obj2: Any, **_hints: Any) -> bool | None:
        """True if both objects come from members of one cluster, None otherwise."""

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool | None:
        """False on a replica, and for a model on a primary other than its cluster's; None otherwise.

        Does not raise ``ImproperlyConfigured``: ``manage.py check`` asks it while it collects what is wrong.
        """

@final
class ScopeNode:
    """An entered scope and all those around it. Set ``scope_variable`` to it to be inside of them all."""

    @property
    def in_request(self) -> bool:
        """Whether one of them is a request scope."""

@disjoint_base
class Scope:
    """What may be entered: ``"request"``, ``"migrate"``, ``"use_primary"`` or ``"use_replica"``."""

    def __new__(
        cls,
        kind: str,
        alias: str | None = None,
        stale_ok: bool = False,
    ) -> Scope: ...
    def fresh(self) -> Scope:
        """Another scope of the same kind, told apart when it is left or resumed."""

    def enter(self) -> None:
        """Enter the scope in the current context. Raises ``ImproperlyConfigured`` if no cluster has the alias."""

    def resume(self, suspended: ScopeNode | None) -> None:
        """Enter the scope again with all that was open inside of it when ``suspended`` was the innermost scope; for
        the first time with None."""

    def leave(self) -> None:
        """Leave the scope; what was entered since and is still open stays open."""

@final
class Record:
    """Who remembers a write: a request, or a thread or task with no request open. Equal if it is the same one."""

    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def wrote(self, alias: str, position: Position | None = None) -> None:
        """A write to the primary ``alias`` has become visible to others, at ``position``; None if that is still to be
        asked for, or there is none. Other aliases are ignored."""

@final
class OpenSnapshot:
    """A transaction on a replica, open since this was made and until it is dropped.

    Its snapshot stays as old as it is, so what the scope in force then requires does not end before it, whichever
    thread of the scope reads.
    """

    def __new__(cls, alias: str) -> OpenSnapshot: ...

@final
class Cipher:
    """Encrypts and authenticates texts under one key: XChaCha20-Poly1305, the key by HKDF-SHA256.

    ``secret``: the site's secret, of any length. ``purpose``: what the key is for; another purpose, another key.
    """

    def __new__(cls, secret: bytes, purpose: bytes) -> Cipher: ...
    def seal(self, nonce: bytes, header: bytes, text: bytes) -> bytes:
        """``text`` encrypted, followed by a tag of 16 bytes that authenticates it together with ``header``.

        ``nonce``: 24 bytes, drawn at random for each text. Raises ``ValueError`` for a nonce of another length.
        """

    def open(self, nonce: bytes, header: bytes, sealed: bytes) -> bytes | None:
        """The text that was sealed; None if the key, the nonce, the header or the sealed text is another one.

        Raises ``ValueError`` for a nonce of another length.
        """

@final
class Position:
    """How far a server has come, as its engine counts it. Immutable, hashable, picklable; cheap to pass around.

    ``kind``: ``"mysql"`` (a GTID set, ``"3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7:tag:3"``), ``"mariadb"`` (the last
    GTID of each domain, ``"0-1-5,2-3-7"``) or ``"postgresql"`` (timeline and LSN, ``"1:0/16B3748"``).
    ``text``: as the server prints it, in any order, letter case and spacing; for MySQL and MariaDB the empty text is
    the position of a server where nothing happened yet, which everything of its kind contains.

    Raises ``ValueError``, naming the text and what is wrong with it; also for what a server accepts and never prints,
    for more than 1 MiB, and for more than 8192 intervals or domains.

    ``str()`` is the canonical text, in one line; equal positions have equal texts.
    """

    def __new__(cls, kind: str, text: str) -> Position: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __getnewargs__(self) -> tuple[str, str]: ...
    @property
    def kind(self) -> Literal["mysql", "mariadb", "postgresql"]:
        """Whose way of counting it follows."""

    def contains(self, other: Position) -> bool:
        """Whether a server here has all that a server at ``other`` has; False where they cannot be compared."""

    def comparable(self, other: Position) -> bool:
        """Whether one order holds both.

        False for two kinds, for two PostgreSQL timelines, and for two MariaDB positions with the same sequence number
        from different servers in one domain: two transactions, of which no server has both.
        """

    def union(self, other: Position) -> Position:
        """The least position that contains both.

        Raises ``ValueError`` if they cannot be compared, or if it would have more than 8192 intervals or domains.
        """

    def shortened(self, limit_bytes: int) -> Position | None:
        """An equal or larger position whose text takes at most ``limit_bytes`` bytes; None if there is none to be had.

        Larger asks for more than was needed, never for less. Only a GTID set has something to cut: the gaps between its
        intervals are closed, the narrowest first.
        """

class _Cluster(Protocol):
    """The attributes of ``replicant.conf.Cluster``."""

    @property
    def primary(self) -> str: ...

scope_variable: ContextVar[ScopeNode | None]
"""Holds the innermost scope."""

def record() -> Record:
    """The record in force here. With no request open it is begun, and belongs to this thread or task from now on."""

def configure(clusters: Iterable[_Cluster], generation: int) -> bool:
    """Put clusters in force, unless the settings have changed since they were read, under the number ``generation``.

    What was known of members that were there before is kept. Returns whether they are in force.
    """

def invalidate() -> None:
    """The settings have changed: the next question reads them anew."""

def generation() -> int:
    """The number of the configuration in force; another number, another configuration."""

def role(alias: str) -> Literal["primary", "replica"] | None:
    """What ``alias`` is; None for a member of no cluster."""

def set_state(alias: str, state: str) -> str:
    """Set the state of a member (``"up"``, ``"lagging"``, ``"ejected"``, ``"probing"``, ``"down"``), whatever reads and
    probes find; ``"up"`` ends that, and forgets what was found.

    Returns the state before. Raises ``ValueError`` for an alias or a state there is not.
    """

def report(alias: str, seconds: float | None, outcome: str) -> list[tuple[str, str, str, str]]:
    """Tell what became of a read from ``alias``: ``"ok"``, ``"failed"``, or ``"gone"`` where the server refused the
    connection or did not answer in time. To be called through :func:`replicant.connections.observations.report`.

    ``seconds``: how long the server took, None if that says more of the statement than of the server. Returns the
    members whose state has changed: the cluster's primary, the alias, the state before and now. An alias of no
    cluster is ignored. Raises ``ValueError`` for another outcome.
    """

def report_probes(
    results: Iterable[tuple[str, str, int, float, tuple[Position | None, str] | None]],
) -> tuple[list[tuple[str, str, str, str]], list[str]]:
    """Report the results of probes: alias, outcome as for :func:`report`, ``time.monotonic_ns()`` before the query, the
    seconds that it took, and the server's position and name if they count.

    Returns what :func:`report` does, and the aliases that lead to another server than before. Aliases of no cluster are
    ignored.
    """

def moved(primary: str, sources: Mapping[str, str]) -> None:
    """Say that the server behind each of these aliases of the cluster of ``primary`` is now the one that was behind the
    alias it is mapped to. What is known of a server goes with it. Raises ``ValueError`` if two would have the same."""

def watch() -> None:
    """Start the monitor if nothing watches the present configuration, as the first read that is routed does."""

def unwatch() -> None:
    """The next read that is routed starts the monitor: nothing watches this configuration, or this process, yet."""

def observe(answers: Iterable[tuple[str, Position | None, int, str]]) -> list[str]:
    """Take in answers of members: alias, position, ``time.monotonic_ns()`` before the query, server.

    A position is what the member has at least, ever since it was asked. Returns the aliases behind which there is
    another server than before. Aliases of no cluster are ignored.
    """

def session_serves(alias: str, server: str, position: Position | None, is_other: bool) -> bool:
    """Whether a session with the server behind the replica ``alias``, which said that it is ``server`` and has
    ``position``, may serve the scope in force.

    Judges a read that the router sent there; any other statement only if ``is_other``: the session showed that the
    server behind the alias is another one than before, or has lost what it had. What the scope may have seen on the one
    before, it must then see elsewhere.
    """

def session_generation() -> int:
    """Another number where a session may have to be looked at anew before it is used: the configuration has changed, or
    the server behind an alias."""

def is_behind(alias: str, server: str) -> bool:
    """Whether ``server`` is the one known to be behind ``alias``; also where nothing is known of that, or where several
    servers are there."""

def pending_primaries() -> list[tuple[str, int]]:
    """The primaries that must be queried for their position before :func:`causality` is complete, and the time."""

def position_received(primary: str, position: Position | None, asked_at: int) -> None:
    """Record the position that a primary had when it was queried, after ``asked_at``; None if it could not tell."""

def causality() -> list[tuple[str, Position | None, float | None, str | None, float | None, int | None, bool]]:
    """What the scope in force has written and read and must see, cluster by cluster.

    The primary's alias, the position, the age of the last write that only time can judge, the member last read from,
    the age of that read, the server behind that member, and whether a read has waited for the position in vain; ages in
    seconds.
    """

def draw_member(primary: str) -> str | None:
    """The member that the client of a write reads from next, chosen by weight; None where scopes stick to no member,
    or no member may serve."""

def oldest_age() -> float:
    """The largest age that this process can tell, in seconds: it stands for larger ones."""

def owes_token() -> bool:
    """Whether the client of the scope in force must be told what the scope must see: the scope wrote, or it presented a
    token of its own."""

def server(alias: str) -> int | None:
    """The server behind ``alias``, as a number that another process on the same servers also has; None if it is not
    known."""

def has_written() -> bool:
    """Whether the scope in force wrote, and does not merely know of writes."""

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
    """Add to what the scope in force must see; in the terms of :func:`causality`. An alias of no cluster is ignored.

    ``known`` is how many seconds ago the position was known, ``received`` how many seconds ago it came here. ``member``
    without ``read`` is the member to read from first. ``is_same``: the server behind ``member`` is known to be the
    one that was read from. ``presented``: the scope itself presents this, and not its client.
    """

def seed(seed: int | None = None) -> None:
    """Seed this thread's draws, for repeatable tests; None lets the operating system seed them again."""

def after_fork() -> None:
    """To be called in a forked child: its draws must not repeat its parent's."""

def explain(model: Any, hints: dict[str, Any]) -> tuple[str | None, str | None, tuple[str, ...]]:
    """What a read of ``model`` would be answered now: the alias, the reason, and the eligible replicas."""

def elsewhere(alias: str, failed: list[str]) -> str | None:
    """The alias that a read of the cluster of ``alias`` goes to, now that the members ``failed`` have failed it.

    None for an alias of no cluster. The scope in force moves there.

    Raises ``NoReplicaAvailable`` as :meth:`ReplicaRouter.db_for_read` does.
    """

def pinned_answer(alias: str) -> str | None:
    """The very string of the router's last answer on this thread, if only the primary ``alias`` may serve that read.

    None where it did not, or where no replica serves late data. Each such answer is an object of its own, so that the
    statement that is sent for it can be told from others by identity.
    """

def spend_decision() -> None:
    """The read of this thread's last decision was sent: what follows without a decision is another one."""

def member_state(alias: str) -> Literal["up", "lagging", "ejected", "probing", "down"] | None:
    """What is known of the member behind ``alias``; None for an alias of no cluster."""

def snapshot() -> dict[str, list[dict[str, Any]]]:
    """Every cluster and member, as plain data."""

def take_decision() -> tuple[str, str] | None:
    """This thread's last decision, once: the alias and the reason (``"write"`` if a write was asked for), or None if
    it was taken already."""

def is_to_remember(alias: str) -> bool:
    """Whether this thread or task is to remember that ``alias`` answers the read that is about to be sent.

    No scope is open that remembers, and the router sent the read there.
    """

def remember(alias: str) -> None:
    """This thread or task has read from ``alias`` by now."""

def run_command(runs: bool) -> bool:
    """A management command begins, or ends. Returns whether one ran before, which is to be handed back at the end."""

def in_transaction(alias: str) -> bool:
    """Whether this thread's connection to ``alias`` is in a transaction. Opens no connection."""

def opened_beside_a_loop() -> None:
    """A connection was opened in a thread that runs an event loop: such threads are looked up with care."""

def public_lookup(force: bool | None = None) -> bool:
    """Force (or no longer force) the public lookup of connections; returns whether it is in use. For tests."""

def text_transaction(open: bool | None = None) -> int:
    """Count one connection more (or fewer) with a transaction that was sent as text; returns how many there are."""

def changed_session(alias: str) -> bool:
    """Whether a statement changed the session of this thread's connection to ``alias`` so that a read has another
    meaning there. Opens no connection."""

def session_changed(changed: bool | None = None) -> int:
    """Count one connection more (or fewer) whose session was changed so that a read has another meaning there; returns
    how many there are."""

def session_changes(sql: str, vendor: str, allowed: list[str] = ...) -> list[tuple[str, str, bool]]:
    """What a statement does to its session, in order.

    An action, the setting in lower case (or the kind of thing that is held), and whether reads that follow may have
    another meaning. The actions: ``"set"``, ``"local"`` (until the transaction ends), ``"reset"``, ``"reset_all"``,
    ``"hold"``, ``"release"``, ``"release_all"``, ``"discard"`` (the session is as a new one) and ``"back"`` (to a
    savepoint). A setting that the text does not show is ``"?"``: CALL and EXECUTE may set anything, but for the
    procedures of ``allowed``.
    """

def target_table(sql: str, vendor: str) -> list[str] | None:
    """The table that one INSERT, REPLACE, UPDATE or DELETE writes to, by the parts of its name; None for other
    statements. Reads no further than that name."""

def names_one_table(sql: str, vendor: str) -> bool:
    """Whether a statement that has a target table names no other table, and calls nothing that might use one."""

def verb(sql: str, vendor: str) -> str:
    """The first word of a statement, in capitals; empty if it does not begin with a word."""

def analyse(sql: str, vendor: str) -> int:
    """What a statement does, as a sum of flags.

    ``vendor`` is Django's ``connection.vendor``, or "mariadb" where that is known. ``WRITES``: it is not surely a
    read. ``LOCKS``: it takes row locks.
    ``AT_ONCE``: what it wrote may be committed at once, even inside a transaction. ``BEGINS``: a transaction is open
    after it. ``COMMITS`` and ``ROLLS_BACK``: it ends one. ``AUTOCOMMIT_OFF`` and ``AUTOCOMMIT_ON``: it sets the
    server's own autocommit. ``SESSION``: :func:`session_changes` may find something.
    """

def refusal(sql: str, vendor: str, allowed: list[str] = ...) -> tuple[str, str | None] | None:
    """Why a statement may not be sent to a replica; None if it is surely a read, or concerns its session alone.

    Returns the verb or construct, for messages, and the function of unknown effect if that is all there is. ``vendor``
    as for :func:`analyse`; ``allowed`` are functions, in lower case, that are known to read only.
    """

def keeps_ascii_apart(character_set: str, vendor: str) -> bool:
    """Whether each byte of ASCII is a character of its own in a character set, by the server's name for the set.

    In GBK, Big5 and Shift JIS a backslash may be the second byte of a character.
    """

def load_mysql_client(path: str) -> bool:
    """Find the functions of the client library that mysqlclient was linked with, through its extension at ``path``,
    which must be loaded; whether all are there."""

def mysql_session_state(connection: Any, variable: bytes | None = None) -> bytes | None:
    """What the last answer on mysqlclient's ``connection`` reported: the GTIDs of what it committed, or the new value
    of the ``variable`` named. Empty if it reported nothing; None if it cannot be told: the answer was an error, a
    result set, or the first of several.

    Raises the driver's error if the connection is closed, ``RuntimeError`` unless ``load_mysql_client`` has succeeded.
    """
