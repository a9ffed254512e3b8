"""One self-contained HTML page: claims, tables and plots."""

import html
import io
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.claims import Claim

mpl.rcParams.update({"svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1c2330}
h1{font-size:1.6rem} h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid #d6dbe4}
table{border-collapse:collapse;margin:.8rem 0} td,th{border-bottom:1px solid #e3e7ee;padding:.3rem .8rem;text-align:left;vertical-align:top}
.held{color:#11743b;font-weight:600}.broken{color:#b3261e;font-weight:600}
figure{margin:1rem 0} figcaption{color:#596275;font-size:.9rem} svg{max-width:100%;height:auto}
pre{background:#f4f6f9;padding:.8rem;overflow:auto}
"""


class Report:
    """Collects parts and writes them as one page."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._parts: list[str] = []

    def heading(self, text: str) -> None:
        """A section."""
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        """A paragraph."""
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def quote(self, text: str) -> None:
        """Text that keeps its lines, such as an explanation."""
        self._parts.append(f"<pre>{html.escape(text)}</pre>")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table of texts and numbers."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
        self._parts.append(f"<table><tr>{head}</tr>{body}</table>")

    def claims(self, claims: Sequence[Claim]) -> None:
        """What was claimed and what was measured."""
        rows = "".join(
            f"<tr><td>{html.escape(claim.part)}</td><td>{html.escape(claim.claimed)}</td><td>{html.escape(claim.measured)}</td>"
            f'<td class="{"held" if claim.held else "broken"}">{"held" if claim.held else "did not hold"}</td></tr>'
            for claim in claims
        )
        self._parts.append(f"<table><tr><th>part</th><th>claimed</th><th>measured</th><th></th></tr>{rows}</table>")

    def figure(self, figure: Figure, caption: str) -> None:
        """A plot as SVG."""
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", bbox_inches="tight")
        svg = buffer.getvalue()
        self._parts.append(f"<figure>{svg[svg.index('<svg') :]}<figcaption>{html.escape(caption)}</figcaption></figure>")

    def write(self, path: Path) -> Path:
        """Writes the page and returns its path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        made = f"{time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime())}, {platform.machine()}, Python {platform.python_version()}"
        title = html.escape(self._title)
        path.write_text(
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
            f"<h1>{title}</h1><p>{made}</p>{''.join(self._parts)}</html>\n"
        )
        return path
