"""Training speed: the whole recipe against the same network fed features made beforehand.

    python benchmarks/training_speed.py            prints a table
    python benchmarks/training_speed.py --write    and appends it to its file in benchmarks/results

Clips of 1 s at 16 kHz, 40 labels, as in Arabic Speech Commands; noise instead of recordings, which
costs the same. Three contenders, each in a process of its own, one after the other, several rounds:

- recipe: waveforms from memory, every augmentation of the preset, the front end, the network, the
  optimiser and the running mean of the weights, as ``speechrnn train`` runs them;
- features: the same network and optimiser on batches of MFCC frames that lie in memory, without
  augmentation and without the running mean;
- torch: PyTorch's own GRU of the same shape behind the same convolutions, on the same frames, with
  the threads that it takes by itself (``pip install torch``; left out where it is missing).

A figure is the median over the rounds, a ratio the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from provenance import append_table

RESULTS = Path(__file__).parent / "results" / "training_speed.md"
PACKAGES = ("tensorflow", "keras", "numpy")
# The second and third shape of a batch are compiled anew, some steps after the first.
CLIPS, LABELS, WARM_UP = 1024, 40, 25
ROUNDS, SECONDS = 3, 12.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="commands")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--write", action="store_true", help=f"append to {RESULTS}")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(CONTENDERS[options.contender](options.preset)))
        return
    names = [n for n in CONTENDERS if n != "torch" or importlib.util.find_spec("torch")]
    rounds = []
    for number in range(options.rounds):
        turn = names[number % len(names) :] + names[: number % len(names)]
        rounds.append({name: run(name, options.preset) for name in turn})
        print(rounds[-1], file=sys.stderr)
    table = make_table(names, rounds)
    print(table)
    if options.write:
        append_table(RESULTS, table, [*PACKAGES, *(["torch"] if "torch" in names else [])])


def run(contender: str, preset: str) -> float:
    command = [sys.executable, __file__, "--contender", contender, "--preset", preset]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return json.loads(done.stdout)


def make_table(names: Sequence[str], rounds: list[dict[str, float]]) -> str:
    lines = [
        "| contender | clips a second | lowest to highest | recipe / it |",
        "|---|---:|---:|---:|",
    ]
    for name in names:
        speeds = [speeds[name] for speeds in rounds]
        ratio = statistics.median(speeds["recipe"] / speeds[name] for speeds in rounds)
        lines.append(
            f"| {name} | {statistics.median(speeds):.0f} | {min(speeds):.0f} to "
            f"{max(speeds):.0f} | {ratio:.2f} |"
        )
    return "\n".join(lines) + "\n"


def timed(step: Callable[[], int]) -> float:
    """Clips a second of a step that returns how many it took, after a warm-up."""
    for _ in range(WARM_UP):
        step()
    clips, started = 0, time.perf_counter()
    while (seconds := time.perf_counter() - started) < SECONDS:
        clips += step()
    return clips / seconds


def make_recipe(preset: str) -> Any:
    from speechrnn.config import apply_overrides, read_preset
    from speechrnn.recipe import Recipe

    return Recipe.from_mapping(apply_overrides(read_preset(preset), ["train.epochs=1000"]))


def whole_recipe(preset: str) -> float:
    """The training loop of ``speechrnn train``, step by step."""
    import numpy as np

    from speechrnn import train
    from speechrnn.datasets.batches import prefetch
    from speechrnn.datasets.examples import HeldExample
    from speechrnn.datasets.manifest import Utterance
    from speechrnn.labels import Labels
    from speechrnn.training_data import TrainingData

    rng = np.random.default_rng(0)
    recipe = make_recipe(preset)
    labels = Labels(tuple(f"word {i:02}" for i in range(LABELS)))
    examples = [
        HeldExample(
            Utterance(Path(f"{i}.wav"), labels.symbols[i % LABELS]),
            (0.1 * rng.standard_normal(16000)).astype(np.float32),
            [1 + i % LABELS],
        )
        for i in range(CLIPS)
    ]
    data = TrainingData(labels, examples, examples, also=[], compose=None, left_out=())
    session = train._Session(recipe, data, Path("unused"))
    session.description = {}
    session.build()

    made = prefetch(batch for epoch in range(1, 999) for batch in session.shown.batches(epoch))

    def step() -> int:
        batch = next(made)
        session.model.train_on_batch(batch.x, batch.y, return_dict=True)
        session.average.update()
        return len(batch.y["targets"])

    return timed(step)


def features_alone(preset: str) -> float:
    """The network of the recipe on frames that were made beforehand."""
    import keras
    import numpy as np
    from keras import ops

    from speechrnn.features import length_mask
    from speechrnn.labels import Labels
    from speechrnn.model import build_model
    from speechrnn.optimizer import make_optimizer

    recipe = make_recipe(preset)
    speech = build_model(recipe.model, Labels(tuple(f"word {i:02}" for i in range(LABELS))))

    class Network(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.head = speech.encoder, speech.head

        def call(self, inputs: Any, training: bool = False) -> Any:
            mask = length_mask(inputs["num_frames"], ops.shape(inputs["frames"])[1])
            encoded, mask = self.encoder(inputs["frames"], frame_mask=mask, training=training)
            return self.head(encoded, frame_mask=mask, training=training)

        def compute_loss(
            self, x=None, y=None, y_pred=None, sample_weight=None, training=True
        ) -> Any:
            del x, sample_weight, training
            return ops.mean(recipe.model.head.loss(y_pred, None, y, None))

    network = Network()
    network.compile(optimizer=make_optimizer(recipe.train, 10_000), jit_compile=False)
    rng = np.random.default_rng(0)
    size, num_frames = recipe.train.batch_size, recipe.model.features.num_frames(16000)
    batches = [
        (
            {
                "frames": rng.standard_normal((size, num_frames, 40)).astype(np.float32),
                "num_frames": np.full(size, num_frames, np.int32),
            },
            rng.integers(1, 1 + LABELS, (size, 1)).astype(np.int32),
        )
        for _ in range(CLIPS // size)
    ]
    turn = iter(range(10**9))

    def step() -> int:
        x, y = batches[next(turn) % len(batches)]
        network.train_on_batch(x, y, return_dict=True)
        return size

    return timed(step)


def torch_gru(preset: str) -> float:
    """PyTorch's own GRU behind convolutions as the recipe's encoder has them."""
    import torch
    from torch import nn

    recipe = make_recipe(preset)
    encoder, size = recipe.model.encoder, recipe.train.batch_size

    channels = encoder.spectral_channels

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                nn.Conv2d(channels, channels, 1, bias=False),
                nn.BatchNorm2d(channels),
            )

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return torch.relu(values + self.layers(values))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            filters = encoder.spectral_filters
            self.convolutions = nn.Sequential(
                nn.Conv2d(1, filters, (5, 5), stride=2, padding=(2, 2), bias=False),
                nn.BatchNorm2d(filters),
                nn.ReLU(),
                nn.Conv2d(filters, channels, (5, 3), stride=2, padding=(2, 1), bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                *(Block() for _ in range(encoder.spectral_blocks)),
            )
            self.merge = nn.Linear(channels * 10, encoder.spectral_width)  # 40 bands / 4
            self.gru = nn.GRU(
                encoder.spectral_width,
                encoder.units,
                encoder.num_layers,
                batch_first=True,
                dropout=encoder.dropout,
                bidirectional=encoder.bidirectional,
            )
            self.logits = nn.Linear(2 * encoder.units, LABELS)

        def forward(self, frames: torch.Tensor) -> torch.Tensor:
            found = self.convolutions(frames[:, None]).permute(0, 2, 1, 3).flatten(2)
            found = torch.relu(self.merge(found))
            return self.logits(self.gru(found)[0].mean(dim=1))

    torch.manual_seed(0)
    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    frames = torch.randn(size, recipe.model.features.num_frames(16000), 40)
    targets = torch.randint(0, LABELS, (size,))

    def step() -> int:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(frames), targets, label_smoothing=0.1)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        return size

    return timed(step)


CONTENDERS: dict[str, Callable[[str], float]] = {
    "recipe": whole_recipe,
    "features": features_alone,
    "torch": torch_gru,
}


if __name__ == "__main__":
    main()
