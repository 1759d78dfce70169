# SPDX-License-Identifier: Apache-2.0
"""The label values of the heart: those of MM-WHS (seven structures) and of ASOCA; the phantoms have them too."""

CARDIAC_LABELS = {
    "myocardium": 205,
    "left_atrium": 420,
    "left_ventricle": 500,
    "right_atrium": 550,
    "right_ventricle": 600,
    "aorta": 820,
    "pulmonary_artery": 850,
}
CORONARY_LABELS = {"coronary_arteries": 1}
