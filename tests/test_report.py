"""The page: complete, self-contained, and true to the figures; its pictures can be drawn."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import Write, tone

from speechrnn.background import THRESHOLDS
from speechrnn.errors import OutputError
from speechrnn.report import DARK, LIGHT, draw_confusions, draw_training, plot_confusions, png
from speechrnn.report_page import PAGE, check_folder, render, write_report

PNG = b"\x89PNG\r\n\x1a\n"
VOID = {"meta", "img", "source"}
PICTURES = {"confusions", "labels", "speakers", "reliability", "noise", "detection"}


class Page(HTMLParser):
    """What stands in a page; a tag that is not closed, or closed twice, is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data + " "

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def labels(count: int) -> list[str]:
    return [f"label {i}" for i in range(count)]


def result(num_labels: int = 3, num_speakers: int = 4, **changes: Any) -> dict[str, Any]:
    """Figures as ``evaluate_model`` returns them; every label is taken for the next one once."""
    names = labels(num_labels)
    bins = [
        {"low": i / 15, "high": (i + 1) / 15, "count": 0, "confidence": None, "accuracy": None}
        for i in range(15)
    ]
    bins[13] |= {"count": 10 * num_labels, "confidence": 0.9, "accuracy": 0.9}
    curve = [
        {
            "threshold": t,
            "false_alarms": round(100 * (1 - t)),
            "false_alarms_per_hour": round(100 * (1 - t)) / 2.5,
            "missed": 0.1 + 0.5 * t,
        }
        for t in THRESHOLDS
    ]
    return {
        "model": "models/words.tflite",
        "data": "words/test.jsonl",
        "utterances": 10 * num_labels,
        "speakers": num_speakers,
        "audio_seconds": 10.0 * num_labels,
        "accuracy": 0.9,
        "interval": [0.8, 0.96],
        "wer": 0.1,
        "cer": 0.05,
        "labels": {name: {"precision": 0.9, "recall": 0.9, "count": 10} for name in names},
        "confusions": [[a, b, 1] for a, b in zip(names, [*names[1:], names[0]], strict=True)],
        "speakers_detail": {
            f"speaker {i}": {"accuracy": 0.8 + 0.2 * i / num_speakers, "count": 8}
            for i in range(num_speakers)
        },
        "speaker_spread": {
            "mean": 0.9,
            "standard_deviation": 0.05,
            "lowest": 0.8,
            "highest": 1.0,
        },
        "threshold": 0.0,
        "rejected": 0,
        "calibration": {"temperature": 1.3, "ece": 0.021, "bins": bins},
        "mistakes": [],
        "noise": [
            {"snr_db": snr_db, "accuracy": 0.9 - 0.1 * i, "rejected": 0}
            for i, snr_db in enumerate((None, 20.0, 15.0, 10.0, 5.0, 0.0, -5.0))
        ],
        "detection": {
            "background_hours": 2.5,
            "background_recordings": 3,
            "commands": 30,
            "budget": 0.5,
            "verifiable": True,
            **curve[100],
            "false_alarms_by_label": {names[0]: 1},
            "curve": curve,
            "detector": {},
            "command_snr_db": None,
            "seed": 0,
        },
        "real_time_factor": 0.01,
        "errors": [],
        **changes,
    }


def decoded(uri: str, kind: str) -> bytes:
    head, _, content = uri.partition(",")
    assert head == f"data:{kind};base64"
    return base64.b64decode(content, validate=True)


def mistake(file: Path, **changes: Any) -> dict[str, Any]:
    found = {"audio_filepath": str(file), "truth": "label 0", "said": "label 1"}
    return {**found, "confidence": 0.97, "speaker": "ann", **changes}


# ------------------------------------------------------------------ the page


def test_the_page_holds_every_picture_for_light_and_for_dark():
    page = Page(render(result()))
    assert {div.get("id") for div in page.all("div")} >= PICTURES
    images, dark = page.all("img"), page.all("source")
    assert len(images) == len(dark) == len(PICTURES)
    for image, source in zip(images, dark, strict=True):
        light = decoded(image["src"], "image/png")
        assert light.startswith(PNG)
        assert decoded(source["srcset"], "image/png").startswith(PNG)
        assert decoded(source["srcset"], "image/png") != light
        assert len(image["alt"]) > 20


def test_data_in_which_nothing_is_said_has_no_picture_of_labels(recwarn: pytest.WarningsRecorder):
    labels = {"go": {"precision": None, "recall": None, "count": 0}}
    page = Page(render(result(labels=labels, confusions=[])))
    assert "labels" not in {div.get("id") for div in page.all("div")}
    assert not recwarn.list


def test_the_page_needs_nothing_beside_it(write_audio: Write):
    file = write_audio("a.wav", tone(440, 0.5, 16000))
    text = render(result(mistakes=[mistake(file)]))
    assert not re.search(r"https?:|\"//|url\(|@import|<script|<link|<iframe", text)
    for tag, attributes in Page(text).tags:
        for name in ("src", "srcset", "href"):
            assert attributes.get(name, "data:").startswith("data:"), tag


def test_the_page_can_be_read_on_a_phone_and_says_its_language():
    text = render(result())
    page = Page(text)
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all(
        "meta"
    )
    assert page.all("html") == [{"lang": "en"}]
    assert "prefers-color-scheme: dark" in text


def test_the_page_says_the_figures():
    text = Page(render(result(threshold=0.4, rejected=3))).text
    for words in (
        "90.0 % accuracy; 95 % interval over recordings 80.0 to 96.0 %",
        "10.0 % word error rate",
        "2.1 % calibration error",
        "10.0 % rejected, below threshold 0.4",
        "standard deviation 5.0 points, lowest 80.0 %, highest 100.0 %",
        "recordings of one voice are not",
        "temperature 1.3",
        "2.5 hours of background",
        "the lowest that keeps to 0.5 an hour",
    ):
        assert words in " ".join(text.split()), words


def test_what_was_not_measured_is_not_there():
    bare = result(noise=[], detection=None, speakers_detail={}, speaker_spread=None)
    page = Page(render(bare))
    ids = {div.get("id") for div in page.all("div")}
    assert ids & PICTURES == {"confusions", "labels", "reliability"}
    assert "speakers unknown" in page.text
    assert "There are none." in page.text


def test_names_of_others_are_shown_and_not_obeyed(tmp_path: Path):
    evil = "<script>alert(1)</script>&\"'"
    found = result(data=evil, model=f"{evil}.tflite")
    found["labels"] = {evil: {"precision": 1.0, "recall": 1.0, "count": 30}, "نعم": {
        "precision": None, "recall": None, "count": 0}}  # fmt: skip
    found["confusions"] = []
    found["speakers_detail"] = {evil: {"accuracy": 1.0, "count": 30}}
    found["mistakes"] = [mistake(tmp_path / "gone \udce9.wav", truth=evil, said="$x^$")]
    page = Page(render(found))
    assert not page.all("script")
    assert evil in page.text
    assert "no such file" in page.text


def test_mistakes_can_be_heard(write_audio: Write):
    files = [
        write_audio("a.wav", tone(440, 0.5, 8000), 8000),
        write_audio("b.flac", np.stack([tone(440, 30, 44100)] * 2, axis=1), 44100),
    ]
    page = Page(render(result(mistakes=[mistake(file) for file in files])))
    seconds = []
    for player in page.all("audio"):
        assert "controls" in player
        samples, rate_hz = soundfile.read(io.BytesIO(decoded(player["src"], "audio/flac")))
        assert rate_hz == 16000
        assert np.abs(samples).max() == pytest.approx(0.3, abs=0.02)
        seconds.append(len(samples) / rate_hz)
    assert seconds == pytest.approx([0.5, 10.0])
    assert "97.0 %" in page.text


def test_the_page_is_written_whole_and_over_an_older_one(tmp_path: Path):
    place = tmp_path / "new" / "report"
    check_folder(place)
    assert write_report(result(), place) == place / PAGE
    write_report(result(accuracy=0.123), place)
    assert "12.3 %" in (place / PAGE).read_text(encoding="utf-8")
    assert [file.name for file in place.iterdir()] == [PAGE]


def test_a_place_that_cannot_take_the_page_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"is a file, expected a folder for report\.html"):
        check_folder(tmp_path / "file")
    with pytest.raises(OutputError, match="cannot be written"):
        check_folder(tmp_path / "file" / "deeper")
    (tmp_path / "full" / PAGE).mkdir(parents=True)
    with pytest.raises(OutputError, match="is a folder, expected the name of a file"):
        check_folder(tmp_path / "full")


# ------------------------------------------------------------------ the pictures


@pytest.mark.parametrize("num_labels", [1, 2, 40, pytest.param(70, marks=pytest.mark.heavy)])
def test_few_and_many_labels_and_speakers_can_be_drawn(num_labels):
    page = Page(render(result(num_labels, num_speakers=3 * num_labels)))
    assert len(page.all("img")) == len(PICTURES)
    wide = "wide" in next(d["class"] for d in page.all("div") if d.get("id") == "confusions")
    assert wide is (num_labels > 15)


def test_rejected_recordings_have_a_column_of_their_own():
    found = result()
    found["confusions"].append(["label 0", "", 2])
    axes = plot_confusions(found, LIGHT).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()][-1] == "(nothing)"
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert (cells[0, 0], cells[1, 0], cells[3, 0]) == ("7", "1", "2")


def test_the_same_figures_give_the_same_picture_in_each_theme():
    light, again, dark = (png(plot_confusions, result(), t) for t in (LIGHT, LIGHT, DARK))
    assert light == again != dark


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": None, "false_alarms_per_hour": None, "missed": None},
        {"budget": None},
        {"budget": 0.0, "verifiable": False},
    ],
)
def test_every_outcome_on_a_background_can_be_drawn(changes):
    found = result()
    found["detection"] = {**found["detection"], **changes}
    assert "detection" in {div.get("id") for div in Page(render(found)).all("div")}


def test_labels_in_letters_that_the_font_lacks_are_no_warning():
    found = result(2)
    found["labels"] = {"停止": found["labels"]["label 0"], "x": found["labels"]["label 1"]}
    found["confusions"] = []
    assert png(plot_confusions, found, DARK).startswith(PNG)


def test_the_pictures_of_the_demo_are_files(tmp_path: Path):
    draw_confusions(result(), tmp_path / "c.png")
    log = [{"epoch": e, "loss": 1 / e, "val_loss": 1.0, "val_accuracy": 0.5} for e in (1, 2)]
    draw_training([{**entry, "accuracy": 0.5} for entry in log], tmp_path / "t.png")
    for name in ("c.png", "t.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG)
