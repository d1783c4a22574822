"""The models that come with speechrnn, by name: trained, exported, ready to answer.

In a checkout they lie in ``export/models``, each with its card; an installed package keeps them
where Python keeps shared data.
"""

from __future__ import annotations

import os
from pathlib import Path

from speechrnn.errors import ModelError

CHECKOUT = Path(__file__).parents[1] / "export" / "models"


def folders() -> tuple[Path, ...]:
    """Where they may lie, first come first."""
    import sysconfig  # reads a file of settings, which a model called by its path does not need

    return CHECKOUT, Path(sysconfig.get_path("data")) / "share" / "speechrnn" / "models"


def ready_models() -> dict[str, Path]:
    """The file of each, by name."""
    found: dict[str, Path] = {}
    for folder in reversed(folders()):
        found |= {file.stem: file for file in sorted(folder.glob("*.tflite"))}
    return found


def model_path(model: str | os.PathLike[str]) -> Path:
    """Where a model lies that is called by its path, or by the name of a ready one.

    What is there under this path comes before a ready model of the name. What is neither is
    returned as it is: opening it says what is wrong.
    """
    path = Path(model)
    if os.path.lexists(path) or path.name != str(model):
        return path
    return ready_models().get(path.name, path)


def no_such_model(model: str | Path) -> ModelError:
    """What to tell a person who asked for a model that is not there."""
    names = ", ".join(ready_models())
    ready = f", or the name of a ready model ({names})" if names else ""
    return ModelError(
        f"{model}: no such model; expected a bundle directory or a .tflite file{ready}"
    )
