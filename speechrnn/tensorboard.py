"""Training curves for TensorBoard: event files that ``tensorboard --logdir DIR`` shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechrnn.errors import OutputError


class TensorBoardLog:
    """Writes each number of a log entry as a scalar; TensorBoard itself is not needed for that.

    Raises:
        OutputError: The folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        import tensorflow as tf  # whatever the model trains with

        self._tf = tf
        kind = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        self._scalar = tf.compat.v1.SummaryMetadata(plugin_data=kind)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = tf.summary.create_file_writer(str(folder))
        except (OSError, tf.errors.OpError) as error:
            raise OutputError(f"{folder}: cannot be written ({error})") from error

    def add(self, entry: Mapping[str, Any]) -> None:
        """One line of the training log."""
        with self._writer.as_default():
            for name, value in entry.items():
                if name != "epoch" and isinstance(value, int | float):
                    value = self._tf.constant(value, self._tf.float32)
                    # tf.summary.scalar does the same, and is missing without TensorBoard.
                    self._tf.summary.write(name, value, entry["epoch"], self._scalar)
            self._writer.flush()

    def close(self) -> None:
        """Nothing comes any more."""
        self._writer.close()
