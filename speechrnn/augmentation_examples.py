"""Recordings before and after the augmentations of a recipe, to be heard and looked at.

A folder with an ``index.html``: for a few recordings the original, each augmentation alone in
several draws, and all of them as training applies them; WAV files, and log mel energies as the
model's front end computes them.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import soundfile
from keras import ops

from speechrnn.audio import load_waveform
from speechrnn.datasets.augment import augmentations_from_mapping, prepare_augmentations
from speechrnn.datasets.augment_mel import MelAugmentation, change_log_mel
from speechrnn.datasets.augment_mixup import Mixup
from speechrnn.datasets.manifest import Utterance
from speechrnn.datasets.waveforms import WaveformAugmentation, Waveforms
from speechrnn.errors import AudioError, DataError, OutputError
from speechrnn.features import MFCC, FeatureConfig
from speechrnn.recipe import Recipe

NUM_RECORDINGS, NUM_DRAWS = 3, 3
ORIGINAL, TOGETHER = "original", "all, as in training"
# Of the picture, in inches: a draw's width, and the heights of its waveform and its energies.
WIDTH, WAVE_HEIGHT, MEL_HEIGHT = 3.6, 0.5, 1.1
STYLE = (
    "body{font-family:sans-serif;margin:2em;max-width:75em}td,th{padding:.2em .8em;text-align:left}"
    "audio{height:2em}img{max-width:100%}"
)


@dataclass(frozen=True)
class Example:
    """One draw.

    Attributes:
        waveform: float32 ``[num_samples]``, or None where only the energies are changed.
        log_mel: float32 ``[frames, num_mels]``.
    """

    waveform: np.ndarray | None
    log_mel: np.ndarray


class _Front:
    """Waveforms -> log mel energies of the recipe's front end, changed or not."""

    def __init__(self, config: FeatureConfig) -> None:
        self.config = dataclasses.replace(
            config, num_coefficients=0, lifter=0, deltas=0, normalisation="none"
        )
        self.layer = MFCC(self.config)

    def __call__(self, batch: Waveforms, changes: Sequence[Any], seed: int) -> list[np.ndarray]:
        log_mel = self.layer(batch.waveform, batch.num_samples)
        change = change_log_mel(changes, self.config.hop_ms)
        if change:
            log_mel = change(log_mel, keras.random.SeedGenerator(seed))
        rows = ops.convert_to_numpy(log_mel)
        return [
            row[: self.config.num_frames(int(num_samples))]
            for row, num_samples in zip(rows, batch.num_samples, strict=True)
        ]


def write_examples(
    recipe: Recipe, rows: Sequence[Utterance], folder: Path, *, seed: int = 0
) -> Path:
    """Write the folder; the page to open is returned.

    Raises:
        DataError: No recording can be read, or the recipe names a folder of noise of no use.
        OutputError: The folder cannot be written.
    """
    rate_hz = recipe.model.features.sample_rate_hz
    prepare_augmentations(augmentations_from_mapping(recipe.augment), rate_hz)
    front = _Front(recipe.model.features)
    sections = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        recordings = list(_some_recordings(rows, rate_hz))
        for number, (row, waveform) in enumerate(recordings, start=1):
            before = recordings[number - 2][1]  # as in a batch, where the first follows the last
            examples = make_examples(recipe, waveform, before, front, seed=seed + number)
            picture = f"{number}.png"
            draw_examples(examples, front.config, f"{row.path.name}: {row.text}", folder / picture)
            sounds = _write_sounds(examples, folder, f"{number}", rate_hz)
            sections.append(_section(row, sounds, picture))
        page = folder / "index.html"
        page.write_text(
            f"<!doctype html><meta charset=utf-8><title>Augmentation</title><style>{STYLE}</style>"
            f"<h1>Augmentation</h1><p>Each alone, at every draw; then all, with the recipe's "
            f"probabilities.</p>{''.join(sections)}\n",
            encoding="utf-8",
            errors="backslashreplace",
        )
    except (OSError, soundfile.LibsndfileError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{folder}: cannot be written ({reason})") from error
    return page


def make_examples(
    recipe: Recipe, waveform: np.ndarray, before: np.ndarray, front: Any, *, seed: int
) -> dict[str, list[Example]]:
    """Name of an augmentation -> draws of it, the original first, all together last.

    ``before`` is another recording, which mixup mixes in.
    """
    named = {
        name: augmentations_from_mapping({name: settings})[0]
        for name, settings in recipe.augment.items()
    }
    shown = {
        name: [dataclasses.replace(named[name], probability=1.0)]
        for name in named
        if isinstance(named[name], WaveformAugmentation | MelAugmentation)
    }
    shown[TOGETHER] = list(named.values())
    examples = {ORIGINAL: _draws([], waveform, front, 1, seed)}
    for number, (name, augmentations) in enumerate(shown.items()):
        examples[name] = _draws(augmentations, waveform, front, NUM_DRAWS, seed + 1000 * number)
    for name, augmentation in named.items():
        if isinstance(augmentation, Mixup):
            mixup = dataclasses.replace(augmentation, probability=1.0)
            shares = mixup.shares(NUM_DRAWS, np.random.default_rng(seed))
            mixed = _mixed(examples[ORIGINAL], _draws([], before, front, 1, seed), shares)
            examples[name] = mixed
    examples[TOGETHER] = examples.pop(TOGETHER)  # last, without mixup
    return examples


def _mixed(own: Sequence[Example], other: Sequence[Example], shares: np.ndarray) -> list[Example]:
    """Energies of two recordings, mixed as training mixes the frames that are made from them."""
    pair = own[0].log_mel, other[0].log_mel
    longest = max(len(log_mel) for log_mel in pair)
    first, second = (
        np.pad(log_mel, ((0, longest - len(log_mel)), (0, 0)), constant_values=log_mel.min())
        for log_mel in pair
    )
    return [Example(None, share * first + (1 - share) * second) for share in shares]


def _draws(
    augmentations: Sequence[Any], waveform: np.ndarray, front: Any, count: int, seed: int
) -> list[Example]:
    batch = Waveforms.stack([waveform] * count, front.config.sample_rate_hz)
    rng = np.random.default_rng(seed)
    audible = [a for a in augmentations if isinstance(a, WaveformAugmentation)]
    for augmentation in audible:
        batch = augmentation.apply(batch, rng)
    sounds: list[np.ndarray | None] = [None] * count
    if audible or not augmentations:
        sounds = [batch.row(index).copy() for index in range(count)]
    return [Example(*pair) for pair in zip(sounds, front(batch, augmentations, seed), strict=True)]


def _some_recordings(
    rows: Sequence[Utterance], rate_hz: int
) -> Iterator[tuple[Utterance, np.ndarray]]:
    """A few that can be read, spread over the data.

    Raises:
        DataError: There is none.
    """
    found = 0
    step = max(1, len(rows) // (NUM_RECORDINGS + 1))
    for row in [*rows[step // 2 :: step], *rows]:
        try:
            waveform = load_waveform(row.path, rate_hz, max_s=60.0)
        except AudioError:
            continue
        if not waveform.any():
            continue
        yield row, waveform
        found += 1
        if found == min(NUM_RECORDINGS, len(rows)):
            return
    if not found:
        raise DataError("none of the recordings can be read, and none can be augmented")


def draw_examples(
    examples: dict[str, list[Example]], config: FeatureConfig, title: str, path: Path
) -> None:
    """One picture: a row for each augmentation, a column for each draw."""
    from matplotlib.figure import Figure

    heights = [h for _ in examples for h in (WAVE_HEIGHT, MEL_HEIGHT)]
    figure = Figure(figsize=(0.6 + WIDTH * NUM_DRAWS, sum(heights) + 0.9), layout="constrained")
    grid = figure.add_gridspec(len(heights), NUM_DRAWS, height_ratios=heights)
    every = [example for draws in examples.values() for example in draws]
    longest_s = max(len(e.log_mel) for e in every) * config.hop_ms / 1000
    original = examples[ORIGINAL][0].log_mel
    limits = (float(np.percentile(original, 5)) - 2, float(original.max()) + 1)
    for row, (name, draws) in enumerate(examples.items()):
        for column, example in enumerate(draws):
            top = figure.add_subplot(grid[2 * row, column])
            bottom = figure.add_subplot(grid[2 * row + 1, column])
            _draw_waveform(top, example, config.sample_rate_hz, longest_s)
            _draw_log_mel(bottom, example, config, longest_s, limits)
            if column == 0:
                top.set_title(name, loc="left", fontsize=10, fontweight="bold")
                bottom.set_ylabel("mel band", fontsize=7)
            last = row == len(examples) - 1
            bottom.tick_params(labelbottom=last or name == ORIGINAL)
            if last:
                bottom.set_xlabel("seconds", fontsize=7)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=90)


def _draw_waveform(axes: Any, example: Example, rate_hz: int, longest_s: float) -> None:
    if example.waveform is None:
        axes.set_axis_off()
        axes.text(0, 0.1, "energies only", fontsize=7, transform=axes.transAxes, color="grey")
        return
    peak = float(np.abs(example.waveform).max())
    axes.plot(np.arange(len(example.waveform)) / rate_hz, example.waveform, linewidth=0.3)
    axes.set_xlim(0, longest_s)
    axes.set_ylim(-1.05 * max(peak, 1e-6), 1.05 * max(peak, 1e-6))
    axes.set_xticks([])
    axes.set_yticks([0])
    axes.tick_params(labelsize=6)
    axes.set_title(f"peak {peak:.2f}", loc="right", fontsize=7, pad=2)


def _draw_log_mel(
    axes: Any,
    example: Example,
    config: FeatureConfig,
    longest_s: float,
    limits: tuple[float, float],
) -> None:
    end_s = len(example.log_mel) * config.hop_ms / 1000
    axes.imshow(
        example.log_mel.T,
        origin="lower",
        aspect="auto",
        extent=(0, end_s, 0, config.num_mels),
        vmin=limits[0],
        vmax=limits[1],
        cmap="magma",
        interpolation="nearest",
    )
    axes.set_xlim(0, longest_s)
    axes.tick_params(labelsize=6)


def _write_sounds(
    examples: dict[str, list[Example]], folder: Path, prefix: str, rate_hz: int
) -> dict[str, list[str]]:
    """WAV files; float, because a sum may overshoot 1. Names by augmentation."""
    written: dict[str, list[str]] = {}
    for name, draws in examples.items():
        written[name] = []
        for number, example in enumerate(draws, start=1):
            if example.waveform is None:
                continue
            stem = "all" if name == TOGETHER else name
            file = f"{prefix}_{stem}{f'_{number}' if len(draws) > 1 else ''}.wav"
            soundfile.write(folder / file, example.waveform, rate_hz, subtype="FLOAT")
            written[name].append(file)
    return written


def _section(row: Utterance, sounds: dict[str, list[str]], picture: str) -> str:
    """A recording's part of the page."""
    lines = [f"<h2>{html.escape(row.text)}</h2><p>{html.escape(str(row.path))}</p><table>"]
    for name, files in sounds.items():
        players = "".join(f'<td><audio controls src="{file}"></audio></td>' for file in files)
        seen = players or "<td>changes the energies: see the picture</td>"
        lines.append(f"<tr><th>{html.escape(name)}</th>{seen}</tr>")
    return "".join(lines) + f'</table><img src="{picture}" alt="waveforms and energies">'
