# SPDX-License-Identifier: Apache-2.0
"""The 28 brain structures of the segmentation task and their label values, which are FreeSurfer's.

The paper names 28 structures of CANDI without listing them; this is the list of the ids that registration papers
evaluate: twelve pairs, the third and fourth ventricles, brain stem and CSF. CANDI's other ids count as background.
"""

from __future__ import annotations

__all__ = ["BRAIN_LABELS"]

BRAIN_LABELS: dict[str, int] = {
    "left_cerebral_white_matter": 2,
    "left_cerebral_cortex": 3,
    "left_lateral_ventricle": 4,
    "left_cerebellum_white_matter": 7,
    "left_cerebellum_cortex": 8,
    "left_thalamus": 10,
    "left_caudate": 11,
    "left_putamen": 12,
    "left_pallidum": 13,
    "third_ventricle": 14,
    "fourth_ventricle": 15,
    "brain_stem": 16,
    "left_hippocampus": 17,
    "left_amygdala": 18,
    "cerebrospinal_fluid": 24,
    "left_ventral_diencephalon": 28,
    "right_cerebral_white_matter": 41,
    "right_cerebral_cortex": 42,
    "right_lateral_ventricle": 43,
    "right_cerebellum_white_matter": 46,
    "right_cerebellum_cortex": 47,
    "right_thalamus": 49,
    "right_caudate": 50,
    "right_putamen": 51,
    "right_pallidum": 52,
    "right_hippocampus": 53,
    "right_amygdala": 54,
    "right_ventral_diencephalon": 60,
}
