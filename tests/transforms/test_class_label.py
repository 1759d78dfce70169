# SPDX-License-Identifier: Apache-2.0
"""Classes of volumes."""

import pytest

from custom.transforms.class_label import EncodeClassd
from custom.volumes import VolumeError

LABELS = {"healthy": 3, "ill": 1}


def test_places_follow_the_order_of_the_labels():
    encode = EncodeClassd("label", LABELS)
    assert [encode({"label": value})["label"] for value in (3, 1)] == [0, 1]
    assert EncodeClassd("label", LABELS, allow_missing_keys=True)({"image": "a"}) == {"image": "a"}


@pytest.mark.parametrize("value", [0, 2, "labels/a.nii.gz", True, 1.5])
def test_undeclared(value):
    with pytest.raises(VolumeError, match=r"a\.nii\.gz: label is .*'healthy': 3"):
        EncodeClassd("label", LABELS)({"image": "a.nii.gz", "label": value})


@pytest.mark.parametrize("labels", [{}, {"a": 1}, {"a": 1, "b": 1}])
def test_classes(labels):
    with pytest.raises(ValueError, match="two classes"):
        EncodeClassd("label", labels)
