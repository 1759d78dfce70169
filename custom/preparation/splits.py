# SPDX-License-Identifier: Apache-2.0
"""Splits of subjects in the proportions of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..data.labelled import evenly_mixed


def scaled_sizes(count: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """Scale the sizes of lists to a number of subjects by the method of largest remainders.

    Args:
        count: number of subjects.
        sizes: list -> number.

    Returns:
        list -> number, at least 1 each, `count` together; `sizes` itself if its sum is `count`.

    Raises:
        ValueError: there are fewer subjects than lists.
    """
    if count < len(sizes):
        raise ValueError(f"{count} usable subjects for the lists {', '.join(sizes)}, expected at least {len(sizes)}")
    exact = {name: count * size / sum(sizes.values()) for name, size in sizes.items()}
    scaled = {name: max(1, int(share)) for name, share in exact.items()}
    while sum(scaled.values()) != count:
        step = 1 if sum(scaled.values()) < count else -1
        allowed = [name for name in sizes if scaled[name] + step >= 1]
        scaled[max(allowed, key=lambda name: step * (exact[name] - scaled[name]))] += step
    return scaled


def draw_split(classes: Mapping[str, int], sizes: Mapping[str, int], seed: int) -> dict[str, list[str]]:
    """Draw the names of each list, with equal shares of the classes. The order of the names has no influence.

    Args:
        classes: name -> class; one class for all names if there are no classes.
        sizes: list -> number of names; their sum is the number of names.
        seed: seed of the draw.

    Returns:
        list -> names, sorted.
    """
    names = sorted(classes)
    shuffled = [names[index] for index in np.random.default_rng(seed).permutation(len(names))]
    order = evenly_mixed(sorted(shuffled, key=classes.__getitem__), classes, start=0.5)
    ends = np.cumsum([sizes[part] for part in sizes])
    drawn = {part: order[end - sizes[part] : end] for part, end in zip(sizes, ends, strict=True)}
    return {part: _in_order(chosen) for part, chosen in drawn.items()}


def split_note(count: int, sizes: Mapping[str, int], scaled: Mapping[str, int]) -> str:
    """One sentence about the sizes of a split (`scaled`) of `count` subjects and those it follows (`sizes`)."""
    listed = ", ".join(f"{name} {size}" for name, size in scaled.items())
    if dict(scaled) == dict(sizes):
        return f"split: {listed}"
    return f"split: {listed}; {'/'.join(map(str, sizes.values()))} scaled to {count} subjects"


def _in_order(names: Sequence[str]) -> list[str]:
    """Names that are numbers first, by value; then other names in alphabetical order."""
    return sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
