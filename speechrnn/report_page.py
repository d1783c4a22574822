"""An evaluation as one HTML page that needs nothing beside it: pictures and recordings inside."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from speechrnn.audio import load_waveform
from speechrnn.background import describe_detection
from speechrnn.errors import AudioError, MissingExtraError, OutputError
from speechrnn.files import check_place, write_atomically
from speechrnn.progress import progress
from speechrnn.report import (
    DARK,
    LIGHT,
    NOTHING,
    Plot,
    plot_confusions,
    plot_detection,
    plot_labels,
    plot_noise,
    plot_reliability,
    plot_speakers,
    png,
)
from speechrnn.version import __version__

PAGE = "report.html"
# A mistake is heard in its first seconds, at a rate that every browser plays.
LONGEST_CLIP_S = 10.0
CLIP_RATE_HZ = 16000
# Wider pictures are scrolled rather than shrunk, for 40 labels stay readable on a phone.
WIDEST_SHRUNK_LABELS = 15

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


def check_folder(folder: Path) -> None:
    """Refuse a place for the page before the figures are computed.

    Raises:
        OutputError: A file, or a folder that cannot be written.
        MissingExtraError: There is nothing to draw with.
    """
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise OutputError(f"{folder}: is a file, expected a folder for {PAGE}; name another")
    check_place(folder / PAGE)
    if os.path.isdir(folder / PAGE):
        raise OutputError(f"{folder / PAGE}: is a folder, expected a file or nothing; remove it")
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError("evaluate --report", "train", "matplotlib") from error


def write_report(result: Mapping[str, Any], folder: Path) -> Path:
    """Write ``report.html`` from a result of ``evaluate_model``; the page's path.

    Raises:
        OutputError: It cannot be written.
    """
    page = folder / PAGE
    write_atomically(page, render(result).encode())
    return page


def render(result: Mapping[str, Any]) -> str:
    """The page as text."""
    parts = [part for part in _sections(result) if part]
    title = f"{Path(result['model']).name}: {100 * result['accuracy']:.1f} %"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; media-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + f'\n<p class="soft">speechrnn {_text(__version__)}</p>\n</body>\n</html>\n'
    )


def _sections(result: Mapping[str, Any]) -> Iterator[str]:
    labels = len(result["labels"])
    yield (
        f"<header><h1>{_text(Path(result['model']).name)} on {_text(result['data'])}</h1>"
        f'<p class="soft">{_text(result["model"])}; {result["utterances"]} recordings, '
        f"{result['audio_seconds'] / 60:.1f} minutes, {_speakers(result)}</p></header>"
    )
    yield _tiles(result)
    yield _section(
        "What was taken for what",
        "<p>Rows are what was said, columns what was heard; the stronger the colour, the "
        "larger the share of its row.</p>",
        _picture(
            "confusions",
            plot_confusions,
            result,
            f"Confusion matrix of {labels} labels: rows are what was said, columns what was heard",
            wide=labels > WIDEST_SHRUNK_LABELS,
        ),
        _confusions(result),
    )
    yield _section(
        "Labels",
        _picture(
            "labels", plot_labels, result, "Recall and precision of each label, hardest first"
        ),
        _labels(result),
    )
    if result["speakers_detail"]:
        yield _section(
            "Speakers",
            f"<p>{_spread(result)}</p>",
            _picture("speakers", plot_speakers, result, "Accuracy of each speaker, lowest first"),
        )
    yield _mistakes(result)
    yield _section(
        "Is a confidence what it says?",
        f"<p>{_calibration(result['calibration'])}</p>",
        _picture(
            "reliability",
            plot_reliability,
            result,
            "Reliability diagram: accuracy against confidence, with the number of answers below",
        ),
    )
    if result["noise"]:
        yield _section(
            "In noise",
            "<p>The same recordings with noise added, by mean power over the whole recording; the "
            "band is the 95 % interval.</p>",
            _picture(
                "noise", plot_noise, result, f"Accuracy against signal to noise: {_noise(result)}"
            ),
        )
    if result["detection"]:
        yield _detection(result)


def _tiles(result: Mapping[str, Any]) -> str:
    low, high = result["interval"]
    tiles = [
        (
            f"{100 * result['accuracy']:.1f} %",
            f"accuracy; 95 % interval over recordings {100 * low:.1f} to {100 * high:.1f} %",
        ),
        (f"{100 * result['wer']:.1f} %", "word error rate"),
        (f"{100 * result['calibration']['ece']:.1f} %", "calibration error (ECE)"),
        (f"{1 / max(result['real_time_factor'], 1e-9):.0f}x", "faster than real time, here"),
    ]
    if result["threshold"]:
        share = 100 * result["rejected"] / result["utterances"]
        tiles.append((f"{share:.1f} %", f"rejected, below threshold {result['threshold']:g}"))
    detection = result["detection"]
    if detection and detection["threshold"] is not None:
        rate, missed = detection["false_alarms_per_hour"], 100 * detection["missed"]
        tiles.append((f"{rate:.2g}", f"false alarms an hour, with {missed:.1f} % missed"))
    inner = "".join(
        f'<div class="tile"><b>{_text(value)}</b><span>{_text(what)}</span></div>'
        for value, what in tiles
    )
    return f'<section class="tiles">{inner}</section>'


def _speakers(result: Mapping[str, Any]) -> str:
    known = len(result["speakers_detail"])
    return f"{known} known speakers" if known else "speakers unknown"


def _spread(result: Mapping[str, Any]) -> str:
    spread, detail = result["speaker_spread"], result["speakers_detail"]
    return (
        f"Accuracy of {len(detail)} speakers: mean {100 * spread['mean']:.1f} %, standard "
        f"deviation {100 * spread['standard_deviation']:.1f} points, lowest "
        f"{100 * spread['lowest']:.1f} %, highest {100 * spread['highest']:.1f} %. The interval "
        "above is over recordings as if each were independent; recordings of one voice are not, so "
        "for new voices expect this spread."
    )


def _confusions(result: Mapping[str, Any]) -> str:
    if not result["confusions"]:
        return "<p>No recording was taken for another label.</p>"
    rows = [
        (_name(truth or NOTHING), _name(said or NOTHING), str(count))
        for truth, said, count in result["confusions"]
    ]
    return _table(("said", "heard as", "times"), rows, numbers=(2,), name="Every confusion")


def _labels(result: Mapping[str, Any]) -> str:
    rows = [
        (_name(label), _percent(f["recall"]), _percent(f["precision"]), str(f["count"]))
        for label, f in result["labels"].items()
    ]
    header = ("label", "recall", "precision", "recordings")
    return _table(header, rows, numbers=(1, 2, 3), name="The same as a table")


def _mistakes(result: Mapping[str, Any]) -> str:
    mistakes = result["mistakes"]
    if not mistakes:
        return _section("The most confident mistakes", "<p>There are none.</p>")
    rows = [
        (
            _name(mistake["truth"]),
            _name(mistake["said"]),
            _percent(mistake["confidence"]),
            _player(Path(mistake["audio_filepath"])),
            f'<span class="soft">{_text(mistake["audio_filepath"])}</span>',
        )
        for mistake in progress(mistakes, "embedding recordings", unit="clip")
    ]
    header = ("said", "heard as", "confidence", "listen", "recording")
    return _section("The most confident mistakes", _table(header, rows, numbers=(2,)))


def _player(file: Path) -> str:
    """The recording as an <audio> element; a word of regret where it can no longer be read."""
    try:
        waveform = load_waveform(file, CLIP_RATE_HZ)
    except AudioError as error:
        return f"<span>{_text(error.reason)}</span>"
    clip = np.clip(waveform[: round(LONGEST_CLIP_S * CLIP_RATE_HZ)], -1, 1)
    buffer = io.BytesIO()
    soundfile.write(buffer, clip, CLIP_RATE_HZ, format="FLAC", subtype="PCM_16")
    source = _data_uri("audio/flac", buffer.getvalue())
    return f'<audio controls preload="none" src="{source}"></audio>'


def _calibration(calibration: Mapping[str, Any]) -> str:
    fitted = (
        f"The confidences are calibrated with temperature {calibration['temperature']:.3g}, fitted "
        "on validation recordings and stored in the model."
        if calibration["temperature"] != 1
        else "The confidences are not calibrated: the model's temperature is 1."
    )
    return (
        f"{fitted} Expected calibration error {100 * calibration['ece']:.1f} % "
        f"({len(calibration['bins'])} bins): how far confidence and accuracy are apart, on average."
    )


def _noise(result: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{'clean' if p['snr_db'] is None else format(p['snr_db'], 'g') + ' dB'} "
        f"{100 * p['accuracy']:.1f} %"
        for p in result["noise"]
    )


def _detection(result: Mapping[str, Any]) -> str:
    found = result["detection"]
    return _section(
        "On long recordings",
        "".join(f"<p>{_text(line)}</p>" for line in describe_detection(found)),
        _picture(
            "detection",
            plot_detection,
            result,
            "False alarms an hour against missed commands, a point for each threshold",
        ),
        _table(
            ("label", "false alarms"),
            [(_name(k), str(n)) for k, n in found["false_alarms_by_label"].items()],
            numbers=(1,),
            name="False alarms by label",
        )
        if found["false_alarms_by_label"]
        else "",
    )


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{_text(title)}</h2>{''.join(parts)}</section>"


def _picture(
    name: str, plot: Plot, result: Mapping[str, Any], alt: str, *, wide: bool = False
) -> str:
    light, dark = (_data_uri("image/png", png(plot, result, theme)) for theme in (LIGHT, DARK))
    return (
        f'<div class="picture{" wide" if wide else ""}" id="{name}"><picture>'
        f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{_text(alt)}"></picture></div>'
    )


def _table(
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
    return f"<details><summary>{_text(name)}</summary>{table}</details>" if name else table


def _name(text: str) -> str:
    """Text of others, which may run from right to left."""
    return f"<bdi>{_text(text)}</bdi>"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _text(text: object) -> str:
    # Names of files need not be UTF-8.
    return html.escape(str(text).encode("utf-8", "backslashreplace").decode())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
