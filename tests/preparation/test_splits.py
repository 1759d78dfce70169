# SPDX-License-Identifier: Apache-2.0
"""Split sizes and draws: the paper's numbers, proportions, classes, seeds."""

import pytest

from custom.preparation.splits import draw_split, scaled_sizes, split_note

STOIC = {"training": 1000, "validation": 400, "test": 600}


def test_the_paper_s_sizes_where_all_are_there():
    assert scaled_sizes(2000, STOIC) == STOIC
    assert split_note(2000, STOIC, STOIC) == "split: training 1000, validation 400, test 600"


@pytest.mark.parametrize("count, expected", [(20, (10, 4, 6)), (7, (4, 1, 2)), (3, (1, 1, 1)), (1999, (999, 400, 600))])
def test_scaled(count, expected):
    scaled = scaled_sizes(count, STOIC)
    assert sum(scaled.values()) == count
    assert all(abs(size - wanted) <= 1 for size, wanted in zip(scaled.values(), expected, strict=True))
    assert min(scaled.values()) >= 1
    assert f"scaled to {count}" in split_note(count, STOIC, scaled)


def test_too_few():
    with pytest.raises(ValueError, match="2 usable subjects .* at least 3"):
        scaled_sizes(2, STOIC)


def test_draw_is_a_partition_with_like_class_shares():
    classes = {str(number): int(number % 5 < 3) for number in range(200)}
    sizes = scaled_sizes(200, STOIC)
    drawn = draw_split(classes, sizes, seed=1)
    assert {name: len(names) for name, names in drawn.items()} == sizes
    assert sorted(sum(drawn.values(), [])) == sorted(classes)
    for names in drawn.values():
        assert abs(sum(classes[name] for name in names) - 0.6 * len(names)) <= 1
        assert names == sorted(names, key=int)


def test_equal_classes_stay_equal():
    classes = {str(number): number % 2 for number in range(40)}
    for names in draw_split(classes, scaled_sizes(40, STOIC), seed=3).values():
        assert sum(classes[name] for name in names) * 2 == len(names)


def test_seed_decides_and_order_does_not():
    names = [f"ct_{number}" for number in range(20)]
    sizes = {"training": 15, "validation": 5}
    first = draw_split(dict.fromkeys(names, 0), sizes, 0)
    assert first == draw_split(dict.fromkeys(names[::-1], 0), sizes, 0)
    assert first != draw_split(dict.fromkeys(names, 0), sizes, 1)
