# SPDX-License-Identifier: Apache-2.0
"""The paper's split sizes for as many subjects as there are, and who goes where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def scaled_sizes(count: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """`sizes` themselves where they add up to `count`, else in their proportions (largest remainder), each at least 1.

    Raises:
        ValueError: fewer subjects than lists.
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
    """Names of each list, drawn by the seed whatever the order of the names, with like shares of the classes.

    Args:
        classes: name -> class; one and the same where there are none.
        sizes: list -> number of names, as many as there are names in all.

    Returns:
        list -> names, sorted.
    """
    names = sorted(classes)
    shuffled = [names[place] for place in np.random.default_rng(seed).permutation(len(names))]
    members = {value: [name for name in shuffled if classes[name] == value] for value in set(classes.values())}
    quantile = {name: (place + 0.5) / len(group) for group in members.values() for place, name in enumerate(group)}
    # every stretch of this order has the shares of the whole
    order = sorted(shuffled, key=lambda name: (quantile[name], classes[name]))
    ends = np.cumsum([sizes[part] for part in sizes])
    drawn = {part: order[end - sizes[part] : end] for part, end in zip(sizes, ends, strict=True)}
    return {part: _in_order(chosen) for part, chosen in drawn.items()}


def split_note(count: int, sizes: Mapping[str, int], scaled: Mapping[str, int]) -> str:
    """One sentence about the sizes that were used."""
    listed = ", ".join(f"{name} {size}" for name, size in scaled.items())
    if dict(scaled) == dict(sizes):
        return f"split: {listed}, the paper's sizes"
    return f"split: {listed}; the paper's sizes are {'/'.join(map(str, sizes.values()))}, scaled to {count} subjects"


def _in_order(names: Sequence[str]) -> list[str]:
    """Numbers by value, other names after them by letter."""
    return sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
