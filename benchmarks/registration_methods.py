# SPDX-License-Identifier: Apache-2.0
"""The methods of the registration benchmark. Each is a function of a batch that returns the displacement of its pair.

A batch holds "moving", "moving_transformed" and "fixed", (1, 1, *spatial) each, intensities in [0, 1], on the device of
the network. A displacement is (1, 3, *spatial), in voxels: the fixed voxel p corresponds to the moving voxel p + u(p).
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from functools import partial

import itk
import numpy as np
import torch
from monai.bundle import ConfigParser

from custom.layers import PhysicalConventions
from custom.pretext import GVSLPretext
from custom.registration import RefineDisplacement, refine_affine, refine_displacement

Batch = dict[str, torch.Tensor]
Method = Callable[[Batch], torch.Tensor]
PACKAGES = {"syn": ("ants", "antspyx"), "elastix": ("itk.itkElastixRegistrationMethodPython", "itk-elastix")}
OF_NETWORK = ("affine", "network", "network_refined")
METHODS = ("before", *OF_NETWORK, "refined", *PACKAGES)


def chosen_methods(
    chosen: Sequence[str], parser: ConfigParser, syn_iterations: Sequence[int], elastix_iterations: int
) -> dict[str, Method]:
    """The chosen methods whose package is installed, by name. The others are left out with a message.

    Args:
        chosen: some of `METHODS`.
        parser: of register.json; its network is built only for the methods that need it.
        syn_iterations: see `syn`.
        elastix_iterations: see `elastix`.
    """
    spacing = list(parser.get_parsed_content("spacing"))
    refinement: RefineDisplacement = parser.get_parsed_content("refinement")
    known: dict[str, Method] = {
        "before": before,
        "refined": partial(refined, refinement=refinement, spacing=spacing),
        "syn": partial(syn, spacing=spacing, iterations=syn_iterations),
        "elastix": partial(elastix, spacing=spacing, iterations=elastix_iterations),
    }
    if set(chosen) & set(OF_NETWORK):
        net = parser.get_parsed_content("network").eval()
        known["affine"] = partial(affine, net=net)
        known["network"] = partial(network, net=net)
        known["network_refined"] = partial(network_refined, net=net, refinement=refinement)
    return {name: known[name] for name in chosen if is_installed(name)}


def is_installed(method: str) -> bool:
    """Whether the package of a method, if it needs one, is installed; otherwise its name is printed."""
    module, package = PACKAGES.get(method, ("", ""))
    if module and importlib.util.find_spec(module) is None:
        print(f"{method} is left out: the package {package} is not installed (extra `registration`)")
        return False
    return True


def before(batch: Batch) -> torch.Tensor:
    """No registration: zero."""
    fixed = batch["fixed"]
    return torch.zeros(1, 3, *fixed.shape[2:], device=fixed.device)


@torch.no_grad()
def affine(batch: Batch, net: GVSLPretext) -> torch.Tensor:
    """The affine map of the network alone."""
    outputs = net(batch)
    local = torch.zeros_like(outputs["local_displacement"])
    return net.matching_head.conventions.displacement(outputs["affine_matrix"], local)


@torch.no_grad()
def network(batch: Batch, net: GVSLPretext) -> torch.Tensor:
    """Both stages of the network."""
    return net(batch)["displacement"]


def network_refined(batch: Batch, net: GVSLPretext, refinement: RefineDisplacement) -> torch.Tensor:
    """Both stages of the network, then the refinement."""
    with torch.no_grad():
        outputs = net(batch)
    return refinement.refined(batch["moving"], batch["fixed"], outputs)["displacement"]


def refined(batch: Batch, refinement: RefineDisplacement, spacing: Sequence[float]) -> torch.Tensor:
    """The refinement alone, from the identity."""
    volumes, conventions = (batch["moving"], batch["fixed"]), PhysicalConventions(spacing)
    matrix = torch.eye(3, 4, device=batch["fixed"].device)[None]
    matrix = refine_affine(*volumes, matrix, spacing, steps=refinement.affine_steps)
    start = before(batch), matrix, conventions
    local = refine_displacement(*volumes, *start, steps=refinement.steps, **refinement.arguments)
    return conventions.displacement(matrix, local)


def syn(batch: Batch, spacing: Sequence[float], iterations: Sequence[int]) -> torch.Tensor:
    """ANTs: affine stage on mutual information, then SyN on cross-correlation of radius 4 voxels.

    Args:
        batch: see above.
        spacing: millimetres per voxel.
        iterations: of SyN at each level, the coarsest first.
    """
    import ants

    moving, fixed = (ants.from_numpy(array, spacing=tuple(spacing)) for array in arrays(batch))
    with tempfile.TemporaryDirectory() as folder:
        result = ants.registration(
            fixed,
            moving,
            "SyN",
            outprefix=f"{folder}/syn_",
            syn_metric="CC",
            syn_sampling=4,
            reg_iterations=tuple(iterations),
        )
        composed = ants.apply_transforms(fixed, moving, result["fwdtransforms"], compose=f"{folder}/composed_")
        field = ants.image_read(composed).numpy()
    return in_voxels(np.moveaxis(field, -1, 0), spacing)


def elastix(batch: Batch, spacing: Sequence[float], iterations: int) -> torch.Tensor:
    """elastix: its default affine, then its default B-spline map, control points 4 voxels apart.

    Args:
        batch: see above.
        spacing: millimetres per voxel.
        iterations: of each stage at each level.
    """
    moving, fixed = (itk.image_from_array(np.ascontiguousarray(array.T)) for array in arrays(batch))
    for image in (moving, fixed):
        image.SetSpacing([float(step) for step in spacing])
    parameters = itk.ParameterObject.New()
    for stage in ("affine", "bspline"):
        stage_parameters = parameters.GetDefaultParameterMap(stage, 3, 4.0 * max(spacing))
        stage_parameters["MaximumNumberOfIterations"] = (str(iterations),)
        parameters.AddParameterMap(stage_parameters)
    with tempfile.TemporaryDirectory() as folder:
        _, transform = itk.elastix_registration_method(
            fixed, moving, parameter_object=parameters, log_to_console=False, output_directory=folder
        )
        image = itk.transformix_deformation_field(moving, transform, output_directory=folder)
        field = itk.array_from_image(image).transpose(3, 2, 1, 0)
    return in_voxels(field, spacing)


def arrays(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """The moving and the fixed volume, (*spatial)."""
    return batch["moving"][0, 0].cpu().numpy(), batch["fixed"][0, 0].cpu().numpy()


def in_voxels(field: np.ndarray, spacing: Sequence[float]) -> torch.Tensor:
    """A field in millimetres along the axes, (3, *spatial), as a displacement."""
    return torch.from_numpy(field / np.reshape(spacing, (3, 1, 1, 1))).float()[None]
