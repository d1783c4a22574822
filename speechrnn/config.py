"""Strict dataclasses to and from TOML and JSON, presets, and registries of named variants.

A setting that is not known is an error that lists the known ones; a value of another type is an
error that shows it. Nothing here knows what a setting means: each dataclass checks its own ranges
in ``__post_init__``.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from speechrnn.errors import ConfigError
from speechrnn.files import reading_text

T = TypeVar("T")

PRESETS = resources.files("speechrnn") / "presets"


def from_mapping(cls: type[T], mapping: Mapping[str, Any], where: str) -> T:
    """Build the dataclass ``cls`` from plain values.

    Args:
        cls: A dataclass; its field types may be int, float (finite), bool, str, Literal,
            ``X | None``, ``tuple[X, ...]`` or a tuple of fixed length.
        mapping: Field name -> value, as read from TOML or JSON.
        where: The section's name, for messages.

    Raises:
        ConfigError: An unknown key, a value of the wrong type, or what ``cls`` itself rejects.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{where}: got {mapping!r}, expected a section of settings")
    hints = typing.get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    unknown = [key for key in mapping if key not in known]
    if unknown:
        raise ConfigError(
            f"{where}.{unknown[0]}: unknown setting; {where} knows {', '.join(known)}"
        )
    values = {key: _coerce(hints[key], value, f"{where}.{key}") for key, value in mapping.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error


def to_mapping(config: Any) -> dict[str, Any]:
    """The dataclass as plain values that JSON and TOML can hold (tuples become lists)."""
    return {
        field.name: list(value) if isinstance(value, tuple) else value
        for field in dataclasses.fields(config)
        for value in [getattr(config, field.name)]
    }


def _coerce(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        # 1 == True == 1.0, so the type is compared as well.
        if not any(type(value) is type(choice) and value == choice for choice in arguments):
            expected = ", ".join(repr(choice) for choice in arguments)
            raise ConfigError(f"{where}: got {value!r}, expected one of {expected}")
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        (inner,) = [choice for choice in arguments if choice is not type(None)]
        return _coerce(inner, value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: got {value!r}, expected a list")
        endless = arguments[-1] is Ellipsis
        if not endless and len(value) != len(arguments):
            raise ConfigError(f"{where}: got {value!r}, expected a list of {len(arguments)} values")
        hints = [arguments[0]] * len(value) if endless else arguments
        return tuple(_coerce(*pair, where) for pair in zip(hints, value, strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where}: got {value!r}, expected a finite number")
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{where}: got {value!r}, expected a value of type {hint.__name__}")
    return value


class Registry:
    """Dataclasses by name: a registered dataclass is both the variant and its configuration.

    In TOML and JSON a variant is a section with its name under ``type`` beside its own settings.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._classes: dict[str, type] = {}

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator: make a frozen dataclass known as ``name``."""

        def add(cls: type[T]) -> type[T]:
            if name in self._classes:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._classes[name] = cls
            return cls

        return add

    def names(self) -> list[str]:
        """The registered names, sorted."""
        return sorted(self._classes)

    def from_mapping(self, mapping: Mapping[str, Any]) -> Any:
        """Build the variant that ``mapping["type"]`` names from the other keys."""
        if not isinstance(mapping, Mapping):
            raise ConfigError(f"{self.kind}: got {mapping!r}, expected a section of settings")
        settings = dict(mapping)
        name = settings.pop("type", None)
        if not isinstance(name, str) or name not in self._classes:
            raise ConfigError(
                f"{self.kind}.type: got {name!r}, expected one of {', '.join(self.names())}"
            )
        return from_mapping(self._classes[name], settings, self.kind)

    def to_mapping(self, config: Any) -> dict[str, Any]:
        """The variant's settings as plain values, with its name under ``type``."""
        for name, cls in self._classes.items():
            if type(config) is cls:
                return {"type": name, **to_mapping(config)}
        raise ConfigError(f"{type(config).__name__} is not a registered {self.kind}")


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(
        Path(entry.name).stem for entry in PRESETS.iterdir() if entry.name.endswith(".toml")
    )


def read_preset(name: str) -> dict[str, Any]:
    """A preset's sections as plain values.

    Raises:
        ConfigError: No preset has this name.
    """
    if name not in preset_names():
        raise ConfigError(
            f"--preset {name}: unknown preset, expected one of {', '.join(preset_names())}"
        )
    return tomllib.loads((PRESETS / f"{name}.toml").read_text(encoding="utf-8"))


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file's sections as plain values.

    Raises:
        ConfigError: The file is missing, unreadable, or not TOML.
    """
    try:
        with reading_text(path):
            return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows adds a mark
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not valid TOML ({error})") from error


def toml_text(sections: Mapping[str, Any]) -> str:
    """Sections of plain values as :func:`read_toml` reads them; settings that are None left out.

    >>> print(toml_text({"train": {"keep": "best"}, "augment": {"gain": {"low": -1.5}}}))
    [train]
    keep = "best"
    <BLANKLINE>
    [augment.gain]
    low = -1.5
    <BLANKLINE>
    """
    return "\n".join(_toml_sections(sections, ()))


def _toml_sections(sections: Mapping[str, Any], parents: tuple[str, ...]) -> Iterator[str]:
    for name, settings in sections.items():
        path = (*parents, name)
        plain = {k: v for k, v in settings.items() if not isinstance(v, Mapping) and v is not None}
        inner = {k: v for k, v in settings.items() if isinstance(v, Mapping)}
        if plain or not inner:
            lines = [f"{key} = {_toml_value(value)}\n" for key, value in plain.items()]
            yield f"[{'.'.join(path)}]\n{''.join(lines)}"
        yield from _toml_sections(inner, path)


def _toml_value(value: Any) -> str:
    """As in JSON, but for the escapes of what lies beyond U+FFFF and of DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def apply_overrides(sections: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Sections with ``section.key=value`` settings laid over them; values are TOML or bare words.

    >>> apply_overrides({"train": {"epochs": 30}}, ["train.epochs=5"])
    {'train': {'epochs': 5}}

    Raises:
        ConfigError: An override that is not of the form ``section.key=value``.
    """
    merged = copy.deepcopy(dict(sections))
    for override in overrides:
        target, equals, text = override.partition("=")
        *parents, key = target.strip().split(".")
        if not (equals and parents and key and all(parents)):
            raise ConfigError(
                f"--set {override}: expected section.key=value, for example train.epochs=5"
            )
        section = merged
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise ConfigError(f"--set {override}: {parent} is a value, not a section")
        if isinstance(section.get(key), dict):
            raise ConfigError(
                f"--set {override}: {key} is a section, expected one of its settings, for example "
                f"{target.strip()}.{next(iter(section[key]), 'key')}=..."
            )
        section[key] = _parse_value(text.strip())
    return merged


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
