"""How far back encoders remember: the command is the first word said, then come other words.

    python benchmarks/memory.py            prints a table
    python benchmarks/memory.py --write    and appends it to its file in benchmarks/results,
                                           with a picture beside it

A word is a pattern of frames, drawn once; an utterance is silence, the command, and 0 to 30 s of
other words of the same vocabulary one after the other, in noise. The encoder reads all of it, and
the answer is read from its last vector alone: what it says of the first word it must have carried
there. Every encoder has the same convolutions before it, which make a step of 40 ms, reads in one
direction where it can be told to, and is as wide as the same number of parameters allows. All are
trained on the same batches, whose lengths are drawn evenly on a logarithmic scale, up to a longest
one that grows during the first half of the training; once with each learning rate, because a plain
recurrent layer needs a lower one than the others. Utterances of their own choose which is shown.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from provenance import append_table

RESULTS = Path(__file__).parent / "results" / "memory.md"
PACKAGES = ("tensorflow", "keras", "numpy")
ENCODERS = "simple_rnn,lstm,gru,transformer"
WORDS, FEATURES, HOP_S = 8, 16, 0.01
WORD_FRAMES, SILENCE_FRAMES = 30, 20
NOISE = 0.5
GAPS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
SHARED = {"conv_filters": 32, "conv_layers": 2, "conv_kernel": 5, "conv_stride": 2}
PARAMETERS = 48_000
BATCHES, BATCH, TEST = 1000, 16, 128
# The longest gap of the first batches.
FIRST_GAP_S = 0.5
LEARNING_RATES = "3e-3,3e-4"
# First number of a seed of utterances.
LEARNT, CHOOSING, TESTED = 1, 2, 3


@dataclasses.dataclass(frozen=True)
class Found:
    """What one encoder did."""

    name: str
    parameters: int
    learning_rate: float
    seconds: float
    chosen_by: float  # accuracy over all gaps, on utterances of its own
    accuracy: dict[float, float]  # by gap

    @property
    def reach_s(self) -> float:
        """Longest gap up to which more than half of what chance leaves is answered rightly."""
        half = (1 + 1 / WORDS) / 2
        kept = 0.0
        for gap_s, accuracy in self.accuracy.items():
            if accuracy < half:
                break
            kept = gap_s
        return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoders", default=ENCODERS, help=f"default: {ENCODERS}")
    parser.add_argument("--parameters", type=int, default=PARAMETERS)
    parser.add_argument("--batches", type=int, default=BATCHES, help=f"of training: {BATCHES}")
    parser.add_argument("--learning-rates", default=LEARNING_RATES, metavar="A,B", help="highest")
    parser.add_argument("--longest", type=float, default=GAPS_S[-1], help="gap in seconds: 30")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help=f"append to {RESULTS}")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    gaps = [gap for gap in GAPS_S if gap <= options.longest]
    found = []
    for name in options.encoders.split(","):
        tried = []
        for rate in map(float, options.learning_rates.split(",")):
            tried.append(measure(name, rate, gaps, options))
            print(json.dumps(dataclasses.asdict(tried[-1])), file=sys.stderr)
        found.append(max(tried, key=lambda one: one.chosen_by))
    table = make_table(found, gaps)
    print(table)
    if options.write:
        append_table(RESULTS, table, PACKAGES)
        draw(found, RESULTS.with_suffix(".png"))


class Speaker:
    """Says utterances of words whose frames are drawn from a seed."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 0])
        places = np.linspace(0, 5, WORD_FRAMES)  # six sounds, and the way from one to the next
        sounds = rng.standard_normal((WORDS, 6, FEATURES))
        low, part = places.astype(int).clip(max=4), (places % 1)[:, None]
        part[-1] = 1
        self.words = (1 - part) * sounds[:, low] + part * sounds[:, low + 1]

    def utterances(
        self, gap_s: float, count: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """float32 ``[count, frames, FEATURES]``, and the commands, int32 ``[count]``."""
        gap = round(gap_s / HOP_S)
        said = rng.integers(WORDS, size=(count, 1 + -(-gap // WORD_FRAMES)))
        spoken = self.words[said].reshape(count, -1, FEATURES)[:, : WORD_FRAMES + gap]
        silence = np.zeros((count, SILENCE_FRAMES, FEATURES))
        frames = np.concatenate([silence, spoken], axis=1)
        frames += NOISE * rng.standard_normal(frames.shape)
        return frames.astype(np.float32), said[:, 0].astype(np.int32)

    def training(
        self, batches: int, longest_s: float, seed: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches, each of one length."""
        rng = np.random.default_rng([seed, LEARNT])
        for batch in range(batches):
            grown = min(1.0, 2 * batch / batches)
            longest = FIRST_GAP_S * (longest_s / FIRST_GAP_S) ** grown
            gap_s = float(np.exp(rng.uniform(np.log(FIRST_GAP_S / 2), np.log(longest))))
            yield self.utterances(gap_s, BATCH, rng)


def sized(name: str, parameters: int) -> Any:
    """The encoder of this name with as many parameters as its width can make."""
    from speechrnn.comparison.budget import nearest, search_size
    from speechrnn.encoders import ENCODERS as registry

    known = {f.name for f in dataclasses.fields(registry.from_mapping({"type": name}))}
    settings = {"type": name, "num_layers": 1 if "units" in known else 2, "bidirectional": False}
    settings = {k: v for k, v in {**settings, **SHARED}.items() if k == "type" or k in known}
    encoder = registry.from_mapping(settings)
    tried = search_size(lambda size: count(encoder.resized(size)), parameters)
    return encoder.resized(nearest(tried, parameters))


def count(config: Any) -> int:
    """Parameters of an encoder."""
    layer = config.build_layer()
    layer(np.zeros((1, 8, FEATURES), np.float32))
    return sum(int(np.prod(variable.shape)) for variable in layer.trainable_variables)


def measure(
    name: str, learning_rate: float, gaps: Sequence[float], options: argparse.Namespace
) -> Found:
    """Train one encoder at one rate, and ask it at each gap."""
    import keras
    import tensorflow as tf

    from speechrnn.progress import progress

    keras.utils.set_random_seed(options.seed)
    config = sized(name, options.parameters)
    encoder, logits = config.build_layer(), keras.layers.Dense(WORDS)

    def answer(frames: Any, training: bool) -> Any:
        return logits(encoder(frames, training=training)[0][:, -1])

    answer(np.zeros((1, 8, FEATURES), np.float32), False)
    variables = [*encoder.trainable_variables, *logits.trainable_variables]
    optimizer = keras.optimizers.Adam(learning_rate, global_clipnorm=1.0)
    optimizer.build(variables)
    signature = [tf.TensorSpec([None, None, FEATURES]), tf.TensorSpec([None], tf.int32)]

    @tf.function(input_signature=signature)
    def step(frames: Any, commands: Any) -> None:
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(commands, answer(frames, True))
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    ask = tf.function(lambda frames: answer(frames, False), input_signature=signature[:1])
    speaker = Speaker(options.seed)
    training = speaker.training(options.batches, gaps[-1], options.seed)
    started = time.perf_counter()
    for done, batch in enumerate(progress(training, name, unit="batch", total=options.batches)):
        optimizer.learning_rate = learning_rate * 0.5 * (1 + np.cos(np.pi * done / options.batches))
        step(*batch)
    seconds = time.perf_counter() - started

    def accuracy(gap_s: float, purpose: int) -> float:
        rng = np.random.default_rng([options.seed, purpose, round(100 * gap_s)])
        frames, commands = speaker.utterances(gap_s, TEST, rng)
        heard = np.concatenate([ask(part).numpy() for part in np.split(frames, TEST // BATCH)])
        return float(np.mean(heard.argmax(axis=-1) == commands))

    return Found(
        name,
        count(config),
        learning_rate,
        round(seconds, 1),
        float(np.mean([accuracy(gap_s, CHOOSING) for gap_s in gaps])),
        {gap_s: accuracy(gap_s, TESTED) for gap_s in gaps},
    )


def make_table(found: Sequence[Found], gaps: Sequence[float]) -> str:
    lines = [
        f"Accuracy in % by gap ({TEST} utterances each, chance {100 / WORDS:g} %); reach: longest "
        "gap up to which more than half of what chance leaves is right.",
        "",
        "| encoder | parameters | learning rate | training | "
        + " | ".join(f"{gap:g} s" for gap in gaps)
        + " | reach |",
        "|---|" + "---:|" * (len(gaps) + 4),
    ]
    for one in found:
        cells = [f"{100 * one.accuracy[gap]:.0f}" for gap in gaps]
        lines.append(
            f"| {one.name} | {one.parameters:,} | {one.learning_rate:g} | {one.seconds:.0f} s | "
            f"{' | '.join(cells)} | {one.reach_s:g} s |"
        )
    return "\n".join(lines) + "\n"


def draw(found: Sequence[Found], path: Path) -> None:
    """Accuracy against gap, a line for each encoder: a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for one in found:
        axes.plot(
            list(one.accuracy), [100 * a for a in one.accuracy.values()], "o-", label=one.name
        )
    axes.axhline(100 / WORDS, color="grey", linestyle=":", label="chance")
    axes.set_xscale("log")
    gaps = list(found[0].accuracy)
    axes.set_xticks(gaps, [f"{gap:g}" for gap in gaps])
    axes.minorticks_off()
    axes.set_xlabel("seconds of other words behind the command")
    axes.set_ylabel("accuracy in %")
    axes.set_ylim(0, 102)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
