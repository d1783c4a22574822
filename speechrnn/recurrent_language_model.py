"""Text -> a recurrent language model, by truncated backpropagation through time.

The sentences, in another order for each epoch, are one long stream, cut into as many as a batch has
rows; each step of training sees the next few words of every row, and begins with the state in which
the step before it ended: the gradient ends there, the memory does not. Source: Mikolov et al. 2010,
"Recurrent neural network based language model"; Williams and Peng 1990, "An efficient
gradient-based algorithm for on-line training of recurrent network trajectories".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers, ops

from speechrnn.decoding.ngram import END, UNKNOWN
from speechrnn.decoding.recurrent_lm import RecurrentModel
from speechrnn.errors import ConfigError
from speechrnn.labels import normalise_text
from speechrnn.progress import progress

# So many words of the text are unknown ones, others in each epoch: then the unknown word is one.
UNKNOWN_SHARE = 0.01
VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class RecurrentConfig:
    """How a recurrent language model is trained.

    Attributes:
        units: Of the recurrent layer, and width of a word's vector.
        epochs: Passes over the text.
        batch_size: Rows that the text is cut into; fewer for a short one.
        words_back: Words that a gradient goes back.
        learning_rate: Of Adam.
        seed: Decides the first weights, the order of sentences and which words are hidden.
    """

    units: int = 128
    epochs: int = 20
    batch_size: int = 16
    words_back: int = 24
    learning_rate: float = 3e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("units", "epochs", "batch_size", "words_back"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} {getattr(self, name)}: expected at least 1")
        if self.seed < 0:
            raise ConfigError(f"--seed {self.seed}: expected 0 or more")
        if self.learning_rate <= 0:
            raise ConfigError(f"--learning-rate {self.learning_rate}: expected more than 0")


def train_recurrent(
    sentences: Sequence[str], config: RecurrentConfig
) -> tuple[RecurrentModel, float]:
    """The model, and its perplexity on every tenth sentence, which it does not learn from.

    Args:
        sentences: One each; empty ones are left out.
        config: The settings.

    Raises:
        ConfigError: Fewer than two sentences.
    """
    split = [said for text in sentences if (said := normalise_text(text).split())]
    if len(split) < 2:
        raise ConfigError(f"the text holds {len(split)} sentences, expected two or more")
    step = round(1 / VALIDATION_SHARE)
    held_out = split[:: min(step, len(split))]
    learnt = [said for n, said in enumerate(split) if n % min(step, len(split))]
    words = (END, UNKNOWN, *sorted({word for said in learnt for word in said} - {END, UNKNOWN}))
    index = {word: place for place, word in enumerate(words)}
    ids = [np.array([index[word] for word in (*said, END)], np.int32) for said in learnt]
    model = _train(ids, len(words), config)
    found = _with_numpy(model, words)
    total = sum(found.sentence_log_probability(said) for said in held_out)
    count = sum(len(said) + 1 for said in held_out)
    return found, math.exp(-total / count)


def _train(sentences: Sequence[np.ndarray], num_words: int, config: RecurrentConfig) -> keras.Model:
    keras.utils.set_random_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    # A row has a word to read and one to expect at each place.
    size = sum(map(len, sentences))
    rows = max(1, min(config.batch_size, size // config.words_back))
    length = size // rows
    back = min(config.words_back, length)
    model = _build(num_words, config, rows, back)
    starts = range(0, length - back + 1, back)
    unknown = 1  # its place among the words
    for _ in progress(range(config.epochs), "learning the language", unit="epoch"):
        model.get_layer("gru").reset_states()
        shuffled = [sentences[i] for i in rng.permutation(len(sentences))]
        stream = np.concatenate([[0], *shuffled])  # a sentence begins behind the end of another
        hidden = (rng.random(len(stream)) < UNKNOWN_SHARE) & (stream != 0)
        stream = np.where(hidden, unknown, stream)
        given = stream[: rows * length].reshape(rows, length)
        wanted = stream[1 : rows * length + 1].reshape(rows, length)
        for start in starts:
            part = slice(start, start + back)
            loss = model.train_on_batch(given[:, part], wanted[:, part])
            if not math.isfinite(float(loss)):
                raise ConfigError("the loss became infinite; lower --learning-rate")
    return model


def _build(num_words: int, config: RecurrentConfig, rows: int, back: int) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(rows, back), dtype="int32"),
            layers.Embedding(num_words, config.units, name="embedding"),
            layers.GRU(config.units, return_sequences=True, stateful=True, name="gru"),
            layers.Dense(num_words, name="output"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.Adam(config.learning_rate, global_clipnorm=1.0)
    model.compile(optimizer, loss, jit_compile=False)
    return model


def _with_numpy(model: keras.Model, words: tuple[str, ...]) -> RecurrentModel:
    def arrays(name: str) -> list[np.ndarray]:
        return [ops.convert_to_numpy(weight) for weight in model.get_layer(name).weights]

    (embedding,) = arrays("embedding")
    kernel, recurrent, bias = arrays("gru")[:3]
    output, output_bias = arrays("output")
    return RecurrentModel(words, embedding, kernel, recurrent, bias, output, output_bias)
