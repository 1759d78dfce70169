# SPDX-License-Identifier: Apache-2.0
"""The structures of the segmentation tasks and their label values; the phantoms use the same values."""

CARDIAC_LABELS = {
    "myocardium": 205,
    "left_atrium": 420,
    "left_ventricle": 500,
    "right_atrium": 550,
    "right_ventricle": 600,
    "aorta": 820,
    "pulmonary_artery": 850,
}
"""MM-WHS."""

CORONARY_LABELS = {"coronary_arteries": 1}
"""ASOCA."""

BRAIN_LABELS = {
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
"""FreeSurfer's values. The paper names 28 structures of CANDI without listing them; these are the ones that
registration papers evaluate: twelve pairs, the third and fourth ventricles, brain stem and CSF. Other ids count as
background."""
