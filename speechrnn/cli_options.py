"""Options that several commands have, and the kinds of values that they take."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType

from speechrnn.options import MOST_SEED

DEFAULT_PRESET = "commands"
# More than this no size is looked for: counting makes the model.
MOST_PARAMETERS = 100_000_000


def count(text: str) -> int:
    """A number of parameters that some model has."""
    return _whole(text, 1, MOST_PARAMETERS)


def seed(text: str) -> int:
    """What random numbers begin with: one that Keras and numpy take."""
    return _whole(text, 0, MOST_SEED)


def _whole(text: str, least: int, most: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        expected = f"a whole number from {least} to {most}"
        raise argparse.ArgumentTypeError(f"got {text!r}, expected {expected}")
    return int(text)


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number from 0 to 1")
    return value


def amount(text: str) -> float:
    """A number, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number, 0 or more")
    return value


def add(
    choices: argparse._SubParsersAction, name: str, text: str, module: ModuleType
) -> argparse.ArgumentParser:
    """A command that the function of this name in the module carries out."""
    parser = choices.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(name=name, module=module, program=parser.prog)
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    """A model to answer with."""
    parser.add_argument(
        "model", metavar="MODEL", help="a bundle, a .tflite, or a ready model's name"
    )


def add_recipe(parser: argparse.ArgumentParser, *, example: str) -> None:
    """What to train, and how."""
    recipe = parser.add_mutually_exclusive_group()
    recipe.add_argument("--preset", default=DEFAULT_PRESET, help=f"default: {DEFAULT_PRESET}")
    recipe.add_argument("--config", type=Path, metavar="F.toml", help="a recipe of your own")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help=f"as in {example}"
    )
    parser.add_argument("--noise", type=Path, metavar="DIR", help="recordings of background noise")


def add_guidance(parser: argparse.ArgumentParser) -> None:
    """What narrows down the answers of a model of sequences."""
    group = parser.add_argument_group("for models of sequences")
    group.add_argument("--beam", type=int, default=0, metavar="N", help="prefixes followed")
    group.add_argument("--grammar", type=Path, metavar="F", help="phrases, in JSGF or one a line")
    group.add_argument(
        "--grammar-margin",
        type=float,
        metavar="X",
        help="how much less likely a phrase may be than what is heard freely; default: the model's",
    )
    group.add_argument(
        "--grammar-margin-per-symbol",
        type=float,
        default=0.0,
        metavar="X",
        help="more of it for each symbol that is heard freely; default: 0",
    )
    group.add_argument("--lm", type=Path, metavar="F.arpa", help="a language model of words")
    group.add_argument("--lm-weight", type=float, default=0.5, metavar="X", help="default: 0.5")
    group.add_argument("--word-bonus", type=float, default=0.0, metavar="X", help="default: 0")
    group.add_argument("--rescore", type=Path, metavar="F.npz", help="a recurrent language model")
    group.add_argument(
        "--rescore-weight", type=float, default=0.5, metavar="X", help="default: 0.5"
    )
    group.add_argument("--hot-words", metavar="A,B C", help="words and phrases to expect")
    group.add_argument("--boost", type=float, default=2.0, metavar="X", help="of them; default: 2")


def add_skip_broken(parser: argparse.ArgumentParser) -> None:
    """What becomes of unreadable recordings."""
    parser.add_argument("--skip-broken", action="store_true", help="leave unreadable files out")
