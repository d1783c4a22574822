"""What HTML pages of ours consist of: one file that needs nothing beside it, pictures inside."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

from speechrnn.report import DARK, LIGHT, Plot, png
from speechrnn.version import __version__

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a19; --soft: #66655f; --line: #dddcd5;
  --page: #fbfbf9; --card: #ffffff; --accent: #2a78d6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e4; --soft: #a3a29a; --line: #3a3a36;
  --page: #161615; --card: #1f1f1d; --accent: #5ba0ee; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem; max-width: 62rem; background: var(--page);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .5rem; }
p { margin: .4rem 0; } .soft { color: var(--soft); overflow-wrap: anywhere; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: 1rem; margin: 1rem 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .7rem;
  background: none; border: 0; padding: 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: .7rem .9rem; }
.tile b { display: block; font-size: 1.5rem; } .tile span { color: var(--soft); font-size: .9rem; }
.picture { overflow-x: auto; } .picture img { max-width: 100%; height: auto; display: block; }
.wide img { max-width: none; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-size: .93rem; }
th, td { text-align: start; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: end; font-variant-numeric: tabular-nums; }
audio { height: 2.2rem; width: 13rem; max-width: 60vw; }
summary { cursor: pointer; color: var(--accent); }
"""


def make_page(title: str, parts: Sequence[str]) -> str:
    """The whole page of parts that are HTML already."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; media-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{escaped(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + f'\n<p class="soft">speechrnn {escaped(__version__)}</p>\n</body>\n</html>\n'
    )


def make_section(title: str, *parts: str) -> str:
    """A card with a heading; the parts are HTML already, empty ones are nothing."""
    return f"<section><h2>{escaped(title)}</h2>{''.join(parts)}</section>"


def make_picture(
    name: str, plot: Plot, result: Mapping[str, Any], alt: str, *, wide: bool = False
) -> str:
    """A picture in the colours of day and of night, with words for who cannot see it."""
    light, dark = (data_uri("image/png", png(plot, result, theme)) for theme in (LIGHT, DARK))
    return (
        f'<div class="picture{" wide" if wide else ""}" id="{name}"><picture>'
        f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{escaped(alt)}"></picture></div>'
    )


def make_table(
    header: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
    *,
    numbers: tuple[int, ...] = (),
    name: str = "",
) -> str:
    """A table of cells that are HTML already; with a name it is folded away."""

    def line(cells: tuple[str, ...], tag: str) -> str:
        marked = (
            f"<{tag}{' class=n' if i in numbers else ''}>{cell}</{tag}>"
            for i, cell in enumerate(cells)
        )
        return f"<tr>{''.join(marked)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    head = line(header, "th")
    table = f'<div class="table"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'
    return f"<details><summary>{escaped(name)}</summary>{table}</details>" if name else table


def foreign(text: str) -> str:
    """Text of others, which may run from right to left."""
    return f"<bdi>{escaped(text)}</bdi>"


def percent(share: float | None) -> str:
    """A share from 0 to 1 with a decimal; a dash for None."""
    return "-" if share is None else f"{100 * share:.1f} %"


def escaped(text: object) -> str:
    """Text as HTML."""
    # Names of files need not be UTF-8.
    return html.escape(str(text).encode("utf-8", "backslashreplace").decode())


def data_uri(kind: str, content: bytes) -> str:
    """A file that lies in the page itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
