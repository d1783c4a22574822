"""What each command of ``speechrnn data`` does with its options; as ``commands``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechrnn.commands import OK, SOME_FAILED, check_json, complain, write_json
from speechrnn.errors import ConfigError

if TYPE_CHECKING:
    from speechrnn.datasets.manifest import Utterance


def synth(options: argparse.Namespace) -> int:
    """Synthesise a data set."""
    import dataclasses

    from speechrnn.datasets.manifest import read_data
    from speechrnn.datasets.synth import SynthConfig, config_like, synthesise
    from speechrnn.progress import bar

    settings: dict[str, Any] = {
        "language": options.language,
        "num_voices": options.voices,
        "clips_per_voice": options.clips,
        "seed": options.seed,
    }
    if options.foreign is not None:
        settings["foreign"] = options.foreign
    if options.sample_rate is not None:
        settings["sample_rate_hz"] = options.sample_rate
    if options.like:
        config = dataclasses.replace(config_like(read_data(options.like)), **settings)
    else:
        words = tuple(word.strip() for word in options.words.split(","))
        config = SynthConfig(words=words, **settings)
    with bar("synthesising", unit="clip") as show:
        manifests = synthesise(config, options.out, progress=show)
    for split, manifest in manifests.items():
        rows = sum(1 for _ in manifest.open(encoding="utf-8"))
        print(f"{split:5} {rows:6} clips  {manifest}")
    return OK


def sequences(options: argparse.Namespace) -> int:
    """Put recordings of single words together to utterances of several."""
    from speechrnn.datasets.manifest import read_data
    from speechrnn.datasets.reading import load_waveforms
    from speechrnn.datasets.sequences import SequenceConfig, clips_by_speaker, write_sequences
    from speechrnn.progress import bar

    config = SequenceConfig(num_words=tuple(options.num_words), gap_s=tuple(options.gap))
    if options.count < 1 or not 4000 <= options.sample_rate <= 192_000:
        raise ConfigError(
            f"--count {options.count}, --sample-rate {options.sample_rate}: expected at least 1 "
            "utterance, and 4000 to 192000 Hz"
        )
    rows = read_data(options.data, options.split)
    phrases = _phrases(options.phrases, rows) if options.phrases else []
    loaded, errors = load_waveforms(
        rows, options.sample_rate, 1, skip_broken=options.skip_broken, purpose="reading"
    )
    speakers = clips_by_speaker(loaded, options.sample_rate)
    with bar("putting together", unit="utterance") as show:
        manifest = write_sequences(
            speakers,
            options.sample_rate,
            config,
            options.count,
            options.out,
            phrases=phrases,
            seed=options.seed,
            progress=show,
        )
    print(f"{options.count} utterances of {len(speakers)} speakers: {manifest}")
    for error in errors:
        complain(f"left out: {error}")
    return SOME_FAILED if errors else OK


def _phrases(file: str, rows: Sequence[Utterance]) -> list[list[str]]:
    """The lines of a text as words that the recordings say."""
    from speechrnn.labels import normalise_text
    from speechrnn.language_model import read_sentences
    from speechrnn.spelling import Spelling

    spelling = Spelling.from_texts((row.text for row in rows), "words", commands=True)
    lines = [*filter(None, map(normalise_text, read_sentences(file)))]
    if not lines:
        raise ConfigError(f"--phrases {file}: holds no phrase, expected one a line")
    return [[word for word, _ in spelling.units(line)] for line in lines]


def check(options: argparse.Namespace) -> int:
    """Count what a data set holds, and say what is wrong with it."""
    from speechrnn.datasets.check import check_data, describe_report

    check_json(options.json)
    if (options.set or options.config) and not options.listen_to_augmentation:
        raise ConfigError("--set, --config: are of --listen-to-augmentation, which is not given")
    examples = _augmentation_examples(options) if options.listen_to_augmentation else None
    report = check_data(options.data)
    if options.json:
        write_json(options.json, report)
    if options.json != "-":
        print("\n".join(describe_report(report)))
    if examples:
        page = examples()
        if options.json != "-":
            print(f"augmentation: {page}")
    return SOME_FAILED if report["wrong"] else OK


def _augmentation_examples(options: argparse.Namespace) -> Callable[[], Path]:
    """What writes the examples; the recipe and the place are checked before anything is read."""
    from speechrnn.extras import require_training
    from speechrnn.files import check_place

    folder = options.listen_to_augmentation
    check_place(folder / "index.html")
    require_training("--listen-to-augmentation")
    from speechrnn.augmentation_examples import write_examples
    from speechrnn.datasets.manifest import read_data
    from speechrnn.training_options import recipe_of

    recipe = recipe_of(options)
    return lambda: write_examples(recipe, read_data(options.data), folder)
