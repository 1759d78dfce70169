# SPDX-License-Identifier: Apache-2.0
"""HU values of blood pools and tissues; they depend on the contrast phase of a subject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Contrast:
    """HU of one subject: blood of the left and right heart, pulmonary arteries and vena cava; soft tissues."""

    left: float
    right: float
    pulmonary: float
    vena_cava: float
    myocardium: float
    liver: float
    spleen: float
    fat: float
    lung: float
    muscle: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Contrast:
        """Draw an angiography: left heart 280 to 500 HU, right heart (independent) 100 to 400, myocardium 80 to 130."""
        left, right = rng.uniform(280, 500), rng.uniform(100, 400)
        return cls(
            left=left,
            right=right,
            pulmonary=right + rng.uniform(0.1, 0.6) * (left - right),
            vena_cava=right * rng.uniform(1.0, 1.8),
            myocardium=rng.uniform(80, 130),
            liver=rng.uniform(55, 95),
            spleen=rng.uniform(90, 140),
            fat=rng.uniform(-112, -88),
            lung=rng.uniform(-890, -800),
            muscle=rng.uniform(45, 65),
        )
