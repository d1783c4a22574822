"""Some of many, spread evenly over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def evenly(items: Sequence[T], most: int) -> Sequence[T]:
    """At most so many of the items, the first among them, each as far from the next."""
    return items[:: max(1, -(-len(items) // most))]
