# SPDX-License-Identifier: Apache-2.0
"""Denoising: restore a volume to which Gaussian noise was added.

Vincent, Larochelle, Lajoie, Bengio, Manzagol: Stacked Denoising Autoencoders: Learning Useful Representations in a Deep
Network with a Local Denoising Criterion. Journal of Machine Learning Research 11, 2010.

    loss = E || x - g(f(x~)) ||^2,  x~ = x + sigma * n,  n ~ N(0, I)

f: backbone, up to its local features; g: restoration head; x~ and x are both volumes of a pair, each with noise of its
own. We average over voxels where the paper sums.

As in the paper: additive isotropic Gaussian noise of one sigma (MONAI's RandGaussianNoised without `sample_std`) on the
whole input, squared error, the usual choice for real-valued input, and a linear output.
As in the comparison of GVSL (He et al., CVPR 2023, section 4): one 3D U-Net trained in one go, where the paper stacks
fully connected layers that are trained one after the other with tied weights. Its skip connections let a network
denoise from a small neighbourhood.
Ours: noise comes before the spatial transform, which moves clean and noisy volume together; linear interpolation halves
its standard deviation (0.2 in the overlay, 0.10 measured behind the transform) and correlates neighbours.

Collapse: constant features restore a constant, whose loss is the variance of the intensities.
"""

from ..losses import RestorationLoss
from ..networks import RestorationNetwork


class DenoisingPretext(RestorationNetwork):
    """Restores both noisy volumes of a pair (Vincent et al., JMLR 2010)."""


class DenoisingLoss(RestorationLoss):
    """Mean squared error over all voxels (Vincent et al., JMLR 2010)."""
