"""A recurrent language model of words, run with numpy alone; it is trained in Keras.

One layer of gated recurrent units (Cho et al. 2014, the ``reset_after`` variant of Keras).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from speechrnn.decoding.ngram import END, UNKNOWN
from speechrnn.errors import ConfigError
from speechrnn.labels import normalise_text
from speechrnn.spelling import Spelling

FORMAT = "speechrnn-lm-1"
ARRAYS = ("embedding", "kernel", "recurrent", "bias", "output", "output_bias")


@dataclass(frozen=True)
class RecurrentModel:
    """Weights, float32, and the words that they know.

    Attributes:
        words: By index, ``</s>`` and ``<unk>`` among them; a sentence begins behind ``</s>``.
        embedding: ``[words, width]``.
        kernel: ``[width, 3 * units]``: update, reset, candidate.
        recurrent: ``[units, 3 * units]``.
        bias: ``[2, 3 * units]``, of the inputs and of the recurrence.
        output: ``[units, words]``.
        output_bias: ``[words]``.
    """

    words: tuple[str, ...]
    embedding: np.ndarray
    kernel: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray
    output: np.ndarray
    output_bias: np.ndarray

    @property
    def units(self) -> int:
        """Width of the state."""
        return len(self.recurrent)

    def step(self, word: int, state: np.ndarray) -> np.ndarray:
        """The state behind a word, float32 ``[units]``."""
        given = self.embedding[word] @ self.kernel + self.bias[0]
        kept = state @ self.recurrent + self.bias[1]
        update, reset = (
            _sigmoid(given[part] + kept[part])
            for part in (slice(0, self.units), slice(self.units, 2 * self.units))
        )
        rest = slice(2 * self.units, None)
        candidate = np.tanh(given[rest] + reset * kept[rest])
        return update * state + (1 - update) * candidate

    def log_probabilities(self, state: np.ndarray) -> np.ndarray:
        """Natural logarithms of each word's probability behind a state, float64 ``[words]``."""
        logits = (state @ self.output + self.output_bias).astype(np.float64)
        logits -= logits.max()
        return logits - np.log(np.exp(logits).sum())

    def ids(self, words: Sequence[str]) -> list[int]:
        """The index of each word, that of ``<unk>`` where it is not known."""
        return [self._known.get(word, self._known[UNKNOWN]) for word in words]

    @cached_property
    def _known(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words)}

    def sentence_log_probability(self, words: Sequence[str]) -> float:
        """The natural logarithm of the probability of a whole sentence."""
        begin, *said = self.ids([END, *words, END])
        state, total = self.step(begin, np.zeros(self.units, np.float32)), 0.0
        for word in said:
            total += float(self.log_probabilities(state)[word])
            state = self.step(word, state)
        return total


class Rescorer:
    """Adds what a recurrent model says of a whole hypothesis: symbols -> score.

    Raises:
        ConfigError: The language model knows no word that the symbols can spell.
    """

    def __init__(
        self, model: RecurrentModel, spelling: Spelling, *, weight: float = 0.5, name: str = "lm"
    ) -> None:
        self._model, self._spelling, self._weight = model, spelling, weight
        if not any(spelling.can_say(word) for word in set(model.words) - {END, UNKNOWN}):
            raise ConfigError(
                f"{name}: none of its words can be said with the model's symbols "
                f"({', '.join(spelling.labels.symbols[:10])} ...); it is of another alphabet or "
                "vocabulary"
            )

    def __call__(self, ids: Sequence[int]) -> float:
        """The weighted natural logarithm."""
        words = self._spelling.text(ids).split()
        return self._weight * self._model.sentence_log_probability(words)


def recurrent_bytes(model: RecurrentModel) -> bytes:
    """The model as an .npz, which holds nothing that could be executed."""
    arrays = {name: getattr(model, name) for name in ARRAYS}
    stream = io.BytesIO()
    np.savez(stream, format=np.array(FORMAT), words=np.array(model.words), **arrays)
    return stream.getvalue()


def read_recurrent(path: str | Path) -> RecurrentModel:
    """Read what :func:`recurrent_bytes` gave.

    Raises:
        ConfigError: It cannot be read, is of another format, or is damaged.
    """
    try:
        with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as found:
            if str(found["format"]) != FORMAT:
                raise ConfigError(f"{path}: is of format {found['format']}, expected {FORMAT}")
            words = tuple(normalise_text(str(word)) for word in found["words"])
            model = RecurrentModel(words, **{name: found[name] for name in ARRAYS})
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, EOFError, TypeError, IndexError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"{path}: is no language model of speechrnn lm --kind gru, or is damaged"
        ) from error
    size, units = len(words), model.recurrent.shape[0]
    whole = (
        {END, UNKNOWN} <= set(words)
        and model.embedding.shape[0] == size
        and model.kernel.shape == (model.embedding.shape[1], 3 * units)
        and model.recurrent.shape == (units, 3 * units)
        and model.bias.shape == (2, 3 * units)
        and model.output.shape == (units, size)
        and model.output_bias.shape == (size,)
    )
    if not whole:
        raise ConfigError(f"{path}: its arrays do not fit one another; it is damaged")
    return model


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))
