"""Which server is behind which alias of a cluster.

Aliases always keep their roles; the server behind an alias changes. An alias also names a server: the one that its
settings lead to. A placement therefore maps each alias to the alias that provides the settings of its connections.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from replicant.engines import Sample


class Placement(NamedTuple):
    """Which server is behind which alias of a cluster."""

    servers: Mapping[str, str]
    """Each alias, and the alias whose settings lead to its server."""
    outsiders: frozenset[str] = frozenset()
    """The servers that were the primary and are not known to replicate from the present one: they do not serve."""
    generation: int = 0
    """How often the placement was changed, in this process and in the processes that share their decisions with it."""

    @classmethod
    def of_settings(cls, members: Iterable[str]) -> Placement:
        return cls({alias: alias for alias in members})

    def covering(self, members: Iterable[str]) -> Placement | None:
        """This placement with exactly these members; None if one of their servers is behind another member's alias."""
        members = list(members)
        servers = {alias: self.servers.get(alias, alias) for alias in members}
        if set(servers.values()) != set(members):
            return None
        return Placement(servers, self.outsiders & servers.keys(), self.generation)

    def alias_of(self, server: str) -> str:
        return next(alias for alias, other in self.servers.items() if other == server)

    def promoting(self, primary: str, server: str) -> Placement:
        """This placement after a swap of aliases: ``server`` gets the primary's alias, the former primary its alias."""
        before = self.servers[primary]
        servers = {**self.servers, primary: server, self.alias_of(server): before}
        return Placement(servers, self.outsiders - {server} | {before}, self.generation)

    def labelled(self, samples: Iterable[Sample]) -> list[Sample]:
        """The samples of servers, each under the alias that its server is behind; other samples are left out."""
        aliases = {server: alias for alias, server in self.servers.items()}
        found = []
        for sample in samples:
            if sample.alias not in aliases:
                continue
            seen = sample._replace(alias=aliases[sample.alias])
            if sample.alias in self.outsiders and sample.error is None:
                error = "was the primary, and does not replicate from the present one"
                seen = seen._replace(server="", position=None, is_writable=False, error=error, is_gone=True)
            found.append(seen)
        return found
