"""Just enough SVG for a bar chart and a line: text stays text, colours follow the reader's light or dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-size: 16px; font-weight: 600 }
  .quiet { fill: #656d76; font-size: 12px }
  .end { text-anchor: end } .middle { text-anchor: middle }
  .bar { fill: #afb8c1 } .ours { fill: #bc4c00 } .spread { stroke: #24292f; stroke-width: 1 }
  .grid { stroke: #d0d7de; stroke-width: 1 } .line { fill: none; stroke: #bc4c00; stroke-width: 2 }
  .area { fill: #bc4c00; opacity: .12 } .paper { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .quiet { fill: #8d96a0 } .bar { fill: #57606a } .ours { fill: #f0883e }
    .spread { stroke: #e6edf3 } .grid { stroke: #30363d } .line { stroke: #f0883e } .area { fill: #f0883e }
    .paper { fill: #0d1117 }
  }
"""


class Drawing:
    """Shapes, in the order they are painted."""

    def __init__(self, width: int, height: int, title: str, description: str) -> None:
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img" aria-labelledby="title description">\n'
            f'<title id="title">{escape(title)}</title>\n<desc id="description">{escape(description)}</desc>\n'
            f"<style>{_STYLE}</style>"
        )
        self._shapes = [f'<rect class="paper" width="{width}" height="{height}"/>']
        self.text(16, 28, title, "title")

    def text(self, x: float, y: float, text: str, kind: str = "") -> None:
        self._shapes.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>')

    def bar(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        width = max(width, 1)
        self._shapes.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="{kind}"/>')

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        self._shapes.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>')

    def curve(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        self._shapes.append(f'<polyline points="{_joined(points)}" class="{kind}"/>')

    def surface(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        self._shapes.append(f'<polygon points="{_joined(points)}" class="{kind}"/>')

    def __str__(self) -> str:
        return "\n".join([self._head, *self._shapes, "</svg>", ""])


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
