# SPDX-License-Identifier: Apache-2.0
"""Models Genesis: restore a volume after local shuffling, non-linear intensities, and in-painting or out-painting.

Zhou, Sodha, Rahman Siddiquee, Feng, Tajbakhsh, Gotway, Liang: Models Genesis: Generic Autodidactic Models for 3D
Medical Image Analysis. MICCAI 2019; Zhou, Sodha, Pang, Gotway, Liang: Models Genesis. Medical Image Analysis 67, 2021.

    loss = mean over all voxels of (x - F(t(x)))^2,  t = painting after intensity after shuffling

F: backbone and restoration head; x are both volumes of a pair, each with a draw of t of its own.

As in the paper and its code (rates of the released configuration): shuffling with probability 0.5, the non-linear curve
with 0.9 (it falls instead of rising in half of the draws), painting with 0.9, of which in-painting 0.2 and out-painting
0.8; in-painting by up to 5 boxes of a sixth to a third of each side, out-painting around up to 5 of three to four
sevenths, each further box with 0.95; as many shuffled voxels for each voxel as 10000 boxes of sides 1 to side / 10
give in the code's 64 x 64 x 32 (density 1.87).
As in the comparison of GVSL (He et al., CVPR 2023, section 4): its 3D U-Net; its restoration head, linear at the end
where the code has a sigmoid; its shuffling, boxes of one size.
Ours: the spatial transform of every task, which moves clean and damaged volume together, in place of the code's random
flips; Adam in place of SGD.

Collapse: constant features restore a constant, whose loss is the variance of the intensities.
"""

from ..losses import RestorationLoss
from ..networks import RestorationNetwork


class ModelsGenesisPretext(RestorationNetwork):
    """Restores both damaged volumes of a pair (Zhou et al., MICCAI 2019)."""


class ModelsGenesisLoss(RestorationLoss):
    """Mean squared error over all voxels, damaged or not (Zhou et al., MICCAI 2019)."""
