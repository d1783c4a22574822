"""Settings: strict in names and types, the same after a round trip, and all presets load."""

from __future__ import annotations

import doctest
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechrnn import config
from speechrnn.config import (
    Registry,
    apply_overrides,
    from_mapping,
    preset_names,
    read_preset,
    read_toml,
    to_mapping,
)
from speechrnn.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    epochs: int = 1
    rate: float = 0.5
    name: str = "x"
    fast: bool = False
    kind: Literal["a", "b", 1] = "a"
    limit: int | None = None
    words: tuple[str, ...] = ()
    range: tuple[int, float] = (1, 2.0)


@dataclass(frozen=True)
class Needy:
    units: int
    names: tuple[str, ...] = field(default=())


# --- writing


@given(st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.booleans()))
def test_what_is_written_as_toml_is_read_back(text: str, truths: list[bool]) -> None:
    sections = {"augment": {"noise": {"folder": text, "flags": truths, "gain_db": -3.5}}}
    assert tomllib.loads(config.toml_text(sections)) == sections


# --- types


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({"epochs": 3}, Settings(epochs=3)),
        ({"rate": 1}, Settings(rate=1.0)),
        ({"limit": None}, Settings()),
        ({"limit": 4}, Settings(limit=4)),
        ({"words": ["a", "b"]}, Settings(words=("a", "b"))),
        ({"range": [1, 2]}, Settings(range=(1, 2.0))),
        ({"kind": 1}, Settings(kind=1)),
    ],
)
def test_plain_values_become_the_dataclass(mapping: dict[str, Any], expected: Settings) -> None:
    found = from_mapping(Settings, mapping, "train")
    assert found == expected
    assert repr(found) == repr(expected)  # 1 == 1.0 == True, but they are written differently


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"epochs": True}, "train.epochs: got True, expected a value of type int"),
        ({"epochs": 1.0}, "train.epochs: got 1.0, expected a value of type int"),
        ({"epochs": "1"}, "train.epochs: got '1', expected a value of type int"),
        ({"epochs": None}, "train.epochs: got None, expected a value of type int"),
        ({"epochs": {}}, "train.epochs: got {}, expected a value of type int"),
        ({"rate": True}, "train.rate: got True, expected a value of type float"),
        ({"rate": float("nan")}, "train.rate: got nan, expected a finite number"),
        ({"rate": float("inf")}, "train.rate: got inf, expected a finite number"),
        ({"name": 1}, "train.name: got 1, expected a value of type str"),
        ({"fast": 1}, "train.fast: got 1, expected a value of type bool"),
        ({"kind": "c"}, "train.kind: got 'c', expected one of 'a', 'b', 1"),
        ({"kind": True}, "train.kind: got True, expected one of 'a', 'b', 1"),
        ({"kind": ["a"]}, "train.kind: got ['a'], expected one of 'a', 'b', 1"),
        ({"limit": "4"}, "train.limit: got '4', expected a value of type int"),
        ({"words": "ab"}, "train.words: got 'ab', expected a list"),
        ({"words": ["a", 1]}, "train.words: got 1, expected a value of type str"),
        ({"range": [1]}, "train.range: got [1], expected a list of 2 values"),
        ({"range": [1.5, 2]}, "train.range: got 1.5, expected a value of type int"),
    ],
)
def test_a_value_of_another_type_is_refused_and_shown(mapping: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(Settings, mapping, "train")
    assert str(caught.value) == said


def test_an_unknown_setting_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(Settings, {"epoch": 3}, "train")
    assert str(caught.value) == (
        "train.epoch: unknown setting; train knows "
        "epochs, rate, name, fast, kind, limit, words, range"
    )


def test_a_value_where_a_section_should_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^train: got 5, expected a section of settings$"):
        from_mapping(Settings, 5, "train")  # type: ignore[arg-type]


def test_a_missing_setting_without_default_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^encoder: .*'units'"):
        from_mapping(Needy, {}, "encoder")


@given(
    st.builds(
        Settings,
        epochs=st.integers(),
        rate=st.floats(allow_nan=False, allow_infinity=False),
        name=st.text(),
        fast=st.booleans(),
        kind=st.sampled_from(["a", "b", 1]),
        limit=st.none() | st.integers(),
        words=st.lists(st.text()).map(tuple),
        range=st.tuples(st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
    )
)
def test_settings_are_the_same_after_a_round_trip(settings: Settings) -> None:
    plain = to_mapping(settings)
    assert not any(isinstance(value, tuple) for value in plain.values())
    assert from_mapping(Settings, plain, "train") == settings


# --- registries


@pytest.fixture
def registry() -> Registry:
    encoders = Registry("encoder")
    encoders.register("plain")(Settings)
    encoders.register("needy")(Needy)
    return encoders


def test_a_variant_is_built_from_its_type_and_written_back(registry: Registry) -> None:
    mapping = {"type": "needy", "units": 8, "names": ["a"]}
    found = registry.from_mapping(mapping)
    assert found == Needy(8, ("a",))
    assert registry.to_mapping(found) == mapping


@pytest.mark.parametrize("name", [None, "lstm", 1, ["needy"]])
def test_an_unknown_type_is_refused_with_the_known_ones(registry: Registry, name: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.from_mapping({"type": name})
    assert str(caught.value) == f"encoder.type: got {name!r}, expected one of needy, plain"


def test_a_value_where_a_variant_should_be_is_refused(registry: Registry) -> None:
    with pytest.raises(ConfigError, match=r"^encoder: got 'gru', expected a section of settings$"):
        registry.from_mapping("gru")  # type: ignore[arg-type]


def test_a_name_is_registered_once(registry: Registry) -> None:
    with pytest.raises(ValueError, match="registered twice"):
        registry.register("needy")(Settings)


def test_what_was_never_registered_cannot_be_written(registry: Registry) -> None:
    with pytest.raises(ConfigError, match="int is not a registered encoder"):
        registry.to_mapping(5)


# --- presets and files


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_a_recipe_that_round_trips(name: str) -> None:
    from speechrnn.recipe import Recipe

    recipe = Recipe.from_mapping(read_preset(name))
    assert Recipe.from_mapping(recipe.to_mapping()) == recipe


def test_there_are_presets() -> None:
    assert "commands" in preset_names()


@pytest.mark.parametrize("name", ["none", "", "../commands", "commands.toml"])
def test_an_unknown_preset_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^--preset {name}: unknown preset, .*commands"):
        read_preset(name)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"[train\nepochs = 1", "is not valid TOML ("),
        (b"epochs = 1\nepochs = 2\n", "is not valid TOML ("),
        (b"name = '\xff'", "is not UTF-8 text (invalid start byte); save it as UTF-8"),
    ],
)
def test_a_broken_settings_file_is_refused(
    content: bytes | None, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "my.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_toml(file)
    assert str(caught.value).startswith(f"{file}: {said}")
    assert "\n" not in str(caught.value)


def test_a_folder_as_settings_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        read_toml(tmp_path)


@pytest.mark.parametrize("content", [b"[train]\nepochs = 5\n", b"\xef\xbb\xbf[train]\r\nepochs=5"])
def test_a_settings_file_of_any_editor_is_read(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_bytes(content)
    assert read_toml(tmp_path / "my.toml") == {"train": {"epochs": 5}}


# --- overrides


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epochs=5", {"train": {"epochs": 5}}),
        ("train.rate=2e-3", {"train": {"rate": 0.002}}),
        ("train.fast=true", {"train": {"fast": True}}),
        (" train.name = a b ", {"train": {"name": "a b"}}),
        ("train.name='5'", {"train": {"name": "5"}}),
        ("train.name=", {"train": {"name": ""}}),
        ("train.name=x=y", {"train": {"name": "x=y"}}),
        ('train.words=["a", "b"]', {"train": {"words": ["a", "b"]}}),
        ("augment.speed.low=0.8", {"augment": {"speed": {"low": 0.8}}}),
        ("a.b.c.d=1", {"a": {"b": {"c": {"d": 1}}}}),
    ],
)
def test_an_override_is_a_toml_value_or_a_bare_word(
    override: str, expected: dict[str, Any]
) -> None:
    assert apply_overrides({}, [override]) == expected


def test_overrides_change_their_setting_alone_and_not_the_original() -> None:
    sections = {"augment": {"speed": {"low": 0.9, "high": 1.1}}, "train": {"epochs": 40}}
    found = apply_overrides(sections, ["augment.speed.low=0.8", "augment.speed.low=0.7"])
    assert found == {"augment": {"speed": {"low": 0.7, "high": 1.1}}, "train": {"epochs": 40}}
    assert sections["augment"] == {"speed": {"low": 0.9, "high": 1.1}}


@pytest.mark.parametrize(
    "override", ["train.epochs", "epochs=5", "=5", ".epochs=5", "train.=5", ""]
)
def test_an_override_of_another_form_is_refused_with_an_example(override: str) -> None:
    with pytest.raises(ConfigError, match=r"expected section.key=value, for example train"):
        apply_overrides({"train": {}}, [override])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.epochs.x=5", "epochs is a value, not a section"),
        ("augment.speed=5", "speed is a section, expected .* for example augment.speed.low="),
    ],
)
def test_an_override_does_not_swap_a_value_for_a_section(override: str, said: str) -> None:
    sections = {"train": {"epochs": 1}, "augment": {"speed": {"low": 0.9}}}
    with pytest.raises(ConfigError, match=f"^--set {override}: {said}"):
        apply_overrides(sections, [override])


def test_the_examples_in_the_docstrings_run() -> None:
    found = doctest.testmod(config)
    assert found.attempted >= 1
    assert found.failed == 0
