"""An evaluation as one HTML page that needs nothing beside it: pictures and recordings inside."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from speechrnn.audio import load_waveform
from speechrnn.background import describe_detection
from speechrnn.errors import AudioError, MissingExtraError, OutputError
from speechrnn.files import check_place, encodable, write_atomically
from speechrnn.html_page import (
    data_uri,
    escaped,
    foreign,
    make_page,
    make_picture,
    make_section,
    make_table,
    percent,
)
from speechrnn.progress import progress
from speechrnn.report import (
    NOTHING,
    plot_confusions,
    plot_detection,
    plot_labels,
    plot_noise,
    plot_reliability,
    plot_speakers,
)

PAGE = "report.html"
# A mistake is heard in its first seconds, at a rate that every browser plays.
LONGEST_CLIP_S = 10.0
CLIP_RATE_HZ = 16000
# Wider pictures are scrolled rather than shrunk, for 40 labels stay readable on a phone.
WIDEST_SHRUNK_LABELS = 15


def check_folder(folder: Path) -> None:
    """Refuse a place for the page before the figures are computed.

    Raises:
        OutputError: A file, or a folder that cannot be written.
        MissingExtraError: There is nothing to draw with.
    """
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise OutputError(f"{folder}: is a file, expected a folder for {PAGE}; name another")
    check_place(folder / PAGE)
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
    write_atomically(page, encodable(render(result)).encode())
    return page


def render(result: Mapping[str, Any]) -> str:
    """The page as text."""
    parts = [part for part in _sections(result) if part]
    return make_page(f"{Path(result['model']).name}: {100 * result['accuracy']:.1f} %", parts)


def _sections(result: Mapping[str, Any]) -> Iterator[str]:
    labels = len(result["labels"])
    yield (
        f"<header><h1>{escaped(Path(result['model']).name)} on {escaped(result['data'])}</h1>"
        f'<p class="soft">{escaped(result["model"])}; {result["utterances"]} recordings, '
        f"{result['audio_seconds'] / 60:.1f} minutes, {_speakers(result)}</p></header>"
    )
    yield _tiles(result)
    yield make_section(
        "What was taken for what",
        "<p>Rows are what was said, columns what was heard; the stronger the colour, the "
        "larger the share of its row.</p>",
        make_picture(
            "confusions",
            plot_confusions,
            result,
            f"Confusion matrix of {labels} labels: rows are what was said, columns what was heard",
            wide=labels > WIDEST_SHRUNK_LABELS,
        ),
        _confusions(result),
    )
    if any(figures["count"] for figures in result["labels"].values()):
        yield make_section(
            "Labels",
            make_picture(
                "labels", plot_labels, result, "Recall and precision of each label, hardest first"
            ),
            _labels(result),
        )
    if result["speakers_detail"]:
        yield make_section(
            "Speakers",
            f"<p>{_spread(result)}</p>",
            make_picture(
                "speakers", plot_speakers, result, "Accuracy of each speaker, lowest first"
            ),
        )
    yield _mistakes(result)
    yield make_section(
        "Is a confidence what it says?",
        f"<p>{_calibration(result['calibration'])}</p>",
        make_picture(
            "reliability",
            plot_reliability,
            result,
            "Reliability diagram: accuracy against confidence, with the number of answers below",
        ),
    )
    if result["noise"]:
        yield make_section(
            "In noise",
            "<p>The same recordings with noise added, by mean power over the whole recording; the "
            "band is the 95 % interval.</p>",
            make_picture(
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
        f'<div class="tile"><b>{escaped(value)}</b><span>{escaped(what)}</span></div>'
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
        (foreign(truth or NOTHING), foreign(said or NOTHING), str(count))
        for truth, said, count in result["confusions"]
    ]
    return make_table(("said", "heard as", "times"), rows, numbers=(2,), name="Every confusion")


def _labels(result: Mapping[str, Any]) -> str:
    rows = [
        (foreign(label), percent(f["recall"]), percent(f["precision"]), str(f["count"]))
        for label, f in result["labels"].items()
    ]
    header = ("label", "recall", "precision", "recordings")
    return make_table(header, rows, numbers=(1, 2, 3), name="The same as a table")


def _mistakes(result: Mapping[str, Any]) -> str:
    mistakes = result["mistakes"]
    if not mistakes:
        return make_section("The most confident mistakes", "<p>There are none.</p>")
    rows = [
        (
            foreign(mistake["truth"]),
            foreign(mistake["said"]),
            percent(mistake["confidence"]),
            _player(Path(mistake["audio_filepath"])),
            f'<span class="soft">{escaped(mistake["audio_filepath"])}</span>',
        )
        for mistake in progress(mistakes, "embedding recordings", unit="clip")
    ]
    header = ("said", "heard as", "confidence", "listen", "recording")
    return make_section("The most confident mistakes", make_table(header, rows, numbers=(2,)))


def _player(file: Path) -> str:
    """The recording as an <audio> element; a word of regret where it can no longer be read."""
    try:
        waveform = load_waveform(file, CLIP_RATE_HZ)
    except AudioError as error:
        return f"<span>{escaped(error.reason)}</span>"
    clip = np.clip(waveform[: round(LONGEST_CLIP_S * CLIP_RATE_HZ)], -1, 1)
    buffer = io.BytesIO()
    soundfile.write(buffer, clip, CLIP_RATE_HZ, format="FLAC", subtype="PCM_16")
    source = data_uri("audio/flac", buffer.getvalue())
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
    return make_section(
        "On long recordings",
        "".join(f"<p>{escaped(line)}</p>" for line in describe_detection(found)),
        make_picture(
            "detection",
            plot_detection,
            result,
            "False alarms an hour against missed commands, a point for each threshold",
        ),
        make_table(
            ("label", "false alarms"),
            [(foreign(k), str(n)) for k, n in found["false_alarms_by_label"].items()],
            numbers=(1,),
            name="False alarms by label",
        )
        if found["false_alarms_by_label"]
        else "",
    )
