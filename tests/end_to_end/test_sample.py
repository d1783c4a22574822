"""The sample in data/ is what a first transcription and the tests need, and stays small."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from speechrnn.datasets.manifest import read_data
from speechrnn.runtime import Recognizer

SAMPLE = Path(__file__).parents[2] / "data" / "sample"


def test_the_sample_is_at_most_two_megabytes():
    assert sum(file.stat().st_size for file in SAMPLE.rglob("*") if file.is_file()) <= 2_000_000


def test_the_sample_is_a_data_set_of_six_words_and_eight_voices():
    rows = read_data(SAMPLE)
    assert len({row.text for row in rows}) == 6
    assert len({row.speaker for row in rows}) == 8
    assert len(rows) == 48


def test_the_sample_model_knows_the_sample_voices_it_never_heard():
    recognizer = Recognizer(SAMPLE / "words.tflite")
    rows = read_data(SAMPLE)
    right = sum(recognizer.transcribe(row.path).text == row.text for row in rows)
    assert right >= 46  # 47 when it was made; the spare one is for other machines' rounding


def test_a_first_transcription_is_one_command(run_cli: Callable):
    result = run_cli("transcribe", SAMPLE / "words.tflite", SAMPLE / "stop")
    records = [json.loads(line) for line in result.out.splitlines()]
    assert result.status == 0
    assert [record["text"] for record in records].count("stop") >= 7
    assert result.err == ""
