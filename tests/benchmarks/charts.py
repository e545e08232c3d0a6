"""Charts of what was measured, by this run or an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.benchmarks import report
from tests.benchmarks.contenders import ALL, EMPTY, IN_REQUEST, NO_ROUTER, ONE_REPLICA, REPLICANT, STICKY, THOUSAND
from tests.benchmarks.empty_extension import RESULTS
from tests.benchmarks.svg import Drawing

#: Of the states, those a reader compares; the table has the others.
_SHOWN = {ONE_REPLICA, REPLICANT, THOUSAND, STICKY, IN_REQUEST}
_ROW, _LEFT, _WIDTH, _TOP = 24, 330, 900, 64


def draw() -> list[str]:
    """Write the charts there are figures for; their names."""
    drawn = {}
    if decisions := report.read("decisions"):
        times = decisions["nanoseconds"]
        drawn["decisions.svg"] = _bars("What a read costs through Django's router", "through", times)
        drawn["direct.svg"] = _bars("What db_for_read costs", "direct", times)
        drawn["in_place.svg"] = _bars("What a read's routing costs right after a query", "in_place", times)
    if counted := report.read("instructions"):
        drawn["instructions.svg"] = _instructions(counted["instructions"])
    if sites := report.read("end_to_end"):
        drawn["end_to_end.svg"] = _writer(sites["sites"])
    for name, drawing in drawn.items():
        (RESULTS / name).write_text(str(drawing))
    return list(drawn)


def _bars(title: str, kind: str, times: Mapping[str, Any]) -> Drawing:
    names = [
        contender.name
        for contender in ALL
        if kind in times.get(contender.name, {}) and (contender.group != "replicant" or contender.name in _SHOWN)
    ]
    names.sort(key=lambda name: float(times[name][kind]["median"]))
    quiet = "Nanoseconds for each call, median and quartiles; the empty loop is deducted. Shorter is better."
    rows = {name: times[name][kind] for name in names}
    return _chart(title, quiet, rows, "ns")


def _instructions(counted: Mapping[str, Mapping[str, float]]) -> Drawing:
    rows: dict[str, dict[str, float]] = {}
    first = next(iter(counted.values()))
    for name, value in [(EMPTY, first["empty direct"]), *((name, of["direct"]) for name, of in counted.items())]:
        rows[name] = {"median": value, "low": value, "high": value}
    quiet = "Instructions for each call of db_for_read, as callgrind counts them; the empty loop is deducted."
    return _chart("Instructions of a decision", quiet, rows, "")


def _chart(title: str, quiet: str, rows: Mapping[str, Mapping[str, float]], unit: str) -> Drawing:
    largest = max(row["high"] for row in rows.values())
    scale = (_WIDTH - _LEFT - 90) / largest
    described = "; ".join(f"{name}: {row['median']:.0f} {unit}".rstrip() for name, row in rows.items())
    drawing = Drawing(_WIDTH, _TOP + _ROW * len(rows) + 16, title, described)
    drawing.text(16, 48, quiet, "quiet")
    for number, (name, row) in enumerate(rows.items()):
        y = _TOP + _ROW * number
        drawing.text(_LEFT - 10, y + 15, name, "quiet end" if name == NO_ROUTER else "end")
        drawing.bar(_LEFT, y + 3, row["median"] * scale, _ROW - 8, "ours" if name.startswith("replicant") else "bar")
        if row["high"] > row["low"]:
            drawing.line(_LEFT + row["low"] * scale, y + 11, _LEFT + row["high"] * scale, y + 11, "spread")
        drawing.text(_LEFT + row["high"] * scale + 8, y + 15, f"{row['median']:.0f} {unit}".rstrip())
    return drawing


def _writer(sites: list[dict[str, Any]]) -> Drawing:
    """The primary's share of all statements, the three sites one after the other."""
    top, height, left = 84, 240, 60
    title = "The primary's share of all statements"
    described = "; ".join(f"{site['name']}: {site['share']:.0%}, {site['stale']} stale pages" for site in sites)
    drawing = Drawing(_WIDTH, top + height + 76, title, described)
    requests = sites[0]["tally"]["requests"]
    quiet = f"MySQL, a primary and two replicas a second behind, the same {requests} requests for each site."
    drawing.text(16, 48, quiet, "quiet")
    for share in (0, 25, 50, 75, 100):
        y = top + height * (1 - share / 100)
        drawing.line(left, y, _WIDTH - 20, y, "grid")
        drawing.text(left - 8, y + 4, f"{share} %", "quiet end")
    step = (_WIDTH - 20 - left) / len(sites)
    for number, site in enumerate(sites):
        start = left + step * number
        middle, below = start + step / 2, top + height
        windows = site["windows"]
        curve = [
            (start + step * (at + 0.5) / len(windows), below - height * primary / max(everywhere, 1))
            for at, (primary, everywhere) in enumerate(windows)
        ]
        drawing.surface([(curve[0][0], below), *curve, (curve[-1][0], below)], "area")
        drawing.curve(curve, "line")
        drawing.line(start, top, start, top + height, "grid")
        drawing.text(middle, below + 24, f"{site['name']}: {site['share']:.1%}", "middle")
        seconds = (
            f"the primary's CPU {site['server_seconds']['default']:.1f} s, the site's {site['site_seconds']:.1f} s"
        )
        drawing.text(middle, below + 42, seconds, "quiet middle")
        tally = site["tally"]
        stale = f"stale: {tally['stale_pages']} own pages, {tally['stale_lists']} lists of {tally['written']} written"
        drawing.text(middle, below + 58, stale, "quiet middle")
    return drawing
