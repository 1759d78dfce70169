# SPDX-License-Identifier: Apache-2.0
"""Refinement of a registration: the loss of the pair at hand is minimised over its displacement, after the network.

This is the instance optimisation of Balakrishnan et al., VoxelMorph, IEEE TMI 2019, started from the output of the
network, and over a control grid as in ConvexAdam (Siebert et al., MICCAI 2021 workshops).
"""

from __future__ import annotations

import time

import torch
from ignite.engine import Engine, Events
from torch.nn import functional as F
from tqdm import tqdm

from ..layers import AuthorsConventions, PhysicalConventions, folded_share, jacobian_determinant
from ..losses import AuthorsNCCLoss, LocalNCCLoss, smoothness_loss
from ..metrics import RegistrationMeasures
from ..networks import ZMatchingHead
from .affine_refinement import refine_affine

CHECK_EVERY = 10  # steps between two candidates for the result
FOLDING_WEIGHT = 10.0  # of the penalty on Jacobian determinants below MIN_DETERMINANT
MIN_DETERMINANT = 0.1


def refine_displacement(
    moving: torch.Tensor,
    fixed: torch.Tensor,
    displacement: torch.Tensor,
    affine_matrix: torch.Tensor | None = None,
    conventions: PhysicalConventions | AuthorsConventions | None = None,
    *,
    steps: int,
    learning_rate: float = 0.2,
    smoothness_weight: float = 3.0,
    control_spacing: int = 2,
    correlation: LocalNCCLoss | AuthorsNCCLoss | None = None,
    max_folded_share: float = 0.01,
) -> torch.Tensor:
    """Minimises the registration terms of the GVSL loss over the local displacement of one pair, with Adam.

        min over c:  L = 1 - NCC(x_A(M(p + phi(p))), x_B(p)) + w_s mean |grad phi(p)|^2,   phi = phi_0 + U c

    phi_0 is the displacement to start from, M the affine map, which does not change, and U the trilinear interpolation
    of a control grid. c starts at 0. The candidates for the result are the start, every tenth step and the last one.
    The result is the one with the smallest L among those whose folded share is at most `max_folded_share`, or the one
    with the smallest folded share if no candidate is below this limit. After a candidate above the limit, the gradient
    also has the term 10 mean max(0, 0.1 - det J(p)), J the Jacobian of the whole map (`jacobian_determinant`).

    Args:
        moving: x_A, (1, C, *spatial).
        fixed: x_B, the same shape.
        displacement: phi_0, (1, 3, *spatial), in voxels.
        affine_matrix: M, (1, 3, 4), see the conventions; None for the identity.
        conventions: how M and phi become one map; None for `PhysicalConventions()`, which needs M in voxels.
        steps: number of Adam steps; 0 returns phi_0.
        learning_rate: of Adam, in voxels per step.
        smoothness_weight: w_s.
        control_spacing: distance of two control points in voxels; 1 for one per voxel.
        correlation: 1 - NCC; None for `LocalNCCLoss()`.
        max_folded_share: see above; of the voxels of the whole map, see `folded_share`.

    Returns:
        phi, (1, 3, *spatial), in voxels, float32, without gradient.

    Raises:
        ValueError: a shape does not fit, or an argument is out of range.
    """
    _check(steps, learning_rate, smoothness_weight, control_spacing, max_folded_share)
    if moving.ndim != 5 or moving.shape[0] != 1 or moving.shape != fixed.shape:
        shapes = f"{tuple(moving.shape)} and {tuple(fixed.shape)}"
        raise ValueError(f"moving and fixed must have one shape (1, C, *spatial), got {shapes}")
    if displacement.shape != (1, 3, *fixed.shape[2:]):
        expected = (1, 3, *fixed.shape[2:])
        raise ValueError(f"displacement must have shape {expected}, got {tuple(displacement.shape)}")
    conventions = PhysicalConventions() if conventions is None else conventions
    correlation = LocalNCCLoss() if correlation is None else correlation
    moving, fixed, start = moving.detach().float(), fixed.detach().float(), displacement.detach().float()
    matrix = torch.eye(3, 4, device=start.device)[None] if affine_matrix is None else affine_matrix.detach().float()
    if steps == 0:
        return start

    size = tuple(fixed.shape[2:])
    control = start.new_zeros(1, 3, *(round((side - 1) / control_spacing) + 1 for side in size)).requires_grad_()
    optimizer = torch.optim.Adam([control], learning_rate)
    best, best_rank, folds = start, (float("inf"), float("inf")), False
    progress = tqdm(total=steps, desc="refining", unit="step", mininterval=1, delay=10)
    with progress, torch.enable_grad(), torch.autocast(start.device.type, enabled=False):
        for step in range(steps + 1):
            local = start + F.interpolate(control, size=size, mode="trilinear", align_corners=True)
            loss = correlation(conventions.warp(moving, matrix, local), fixed)
            loss = loss + smoothness_weight * smoothness_loss(local).mean()
            if step % CHECK_EVERY == 0 or step == steps:
                folded = float(folded_share(conventions.displacement(matrix, local.detach())))
                rank = (max(folded - max_folded_share, 0.0), float(loss.detach()))
                if rank < best_rank:
                    best, best_rank = local.detach(), rank
                folds = folds or folded > max_folded_share
            if step == steps:
                break
            if folds:
                determinant = jacobian_determinant(conventions.displacement(matrix, local))
                loss = loss + FOLDING_WEIGHT * (MIN_DETERMINANT - determinant).clamp_min(0).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            progress.update()
    return best


class RefineDisplacement:
    """Refines the pair of each iteration, before its files and figures are made.

    First the affine map (`refine_affine`), after which the deformable head reads the local displacement off the
    features again; then this displacement (`refine_displacement`).

    In the outputs of the evaluator it replaces "affine_matrix", "local_displacement", "displacement" and "warped", and
    adds:
        "network_affine_matrix", "network_displacement": those before the refinement, (1, 3, 4) and (1, 3, *spatial).
        "registration_refined", "folded_share_refined": as `RegistrationMeasures`, after the refinement.
        "refine_seconds": duration.

    Args:
        steps: number of Adam steps on the displacement; 0 for no refinement and no other outputs.
        matching_head: the head that computed the outputs; its conventions are used.
        affine_steps: number of Adam steps on the affine map at each of its two levels; 0 leaves it. There are none in
            the geometry of the authors' code (`AuthorsConventions`).
        learning_rate: see `refine_displacement`, as the next ones.
        smoothness_weight: w_s.
        control_spacing: in voxels.
        correlation: 1 - NCC; None for `LocalNCCLoss()`.
        max_folded_share: in [0, 1].

    Raises:
        ValueError: an argument is out of range, or there are affine steps alone.
    """

    def __init__(
        self,
        steps: int,
        matching_head: ZMatchingHead,
        affine_steps: int = 0,
        learning_rate: float = 0.2,
        smoothness_weight: float = 3.0,
        control_spacing: int = 2,
        correlation: LocalNCCLoss | AuthorsNCCLoss | None = None,
        max_folded_share: float = 0.01,
    ) -> None:
        _check(steps, learning_rate, smoothness_weight, control_spacing, max_folded_share, affine_steps)
        if affine_steps and not steps:
            raise ValueError(f"affine_steps (refine_affine) is {affine_steps} and steps (refine) 0, expected steps too")
        if affine_steps and not isinstance(matching_head.conventions, PhysicalConventions):
            conventions = type(matching_head.conventions).__name__
            raise ValueError(f"affine_steps (refine_affine) is {affine_steps}, expected 0 with {conventions}")
        self.steps = steps
        self.affine_steps = affine_steps
        self.matching_head = matching_head
        self.measures = RegistrationMeasures(matching_head)
        self.arguments = {
            "learning_rate": learning_rate,
            "smoothness_weight": smoothness_weight,
            "control_spacing": control_spacing,
            "correlation": correlation,
            "max_folded_share": max_folded_share,
        }

    def attach(self, engine: Engine) -> None:
        """Registers on a `PretextEvaluator`; attach it before the handlers that read the outputs."""
        if self.steps:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self.refine)

    def refine(self, engine: Engine) -> None:
        """Refines the pair of the last iteration."""
        batch, outputs = engine.state.batch, engine.state.output
        began = time.perf_counter()
        refined = outputs | self.refined(batch["moving"], batch["fixed"], outputs)
        seconds = time.perf_counter() - began
        with torch.no_grad():
            refined["warped"] = self.matching_head.warp(batch["moving"], refined)
            measured = self.measures(refined, batch)
        engine.state.output = refined | {
            "network_affine_matrix": outputs["affine_matrix"],
            "network_displacement": outputs["displacement"],
            "registration_refined": measured["registration_after"],
            "folded_share_refined": measured["folded_share"],
            "refine_seconds": torch.tensor(seconds),
        }

    def refined(
        self, moving: torch.Tensor, fixed: torch.Tensor, outputs: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """The refined map of a pair.

        Args:
            moving: (1, C, *spatial).
            fixed: the same shape.
            outputs: of the network, see `GVSLPretext`.

        Returns:
            "affine_matrix", "local_displacement" and "displacement", see `ZMatchingHead`.
        """
        conventions, match = self.matching_head.conventions, outputs
        if self.affine_steps:
            volumes = moving, fixed, outputs["affine_matrix"]
            matrix = refine_affine(*volumes, conventions.spacing, steps=self.affine_steps)
            with torch.no_grad():
                match = self.matching_head.match(matrix, *outputs["local"].chunk(2))
        matrix, local = match["affine_matrix"], match["local_displacement"]
        local = refine_displacement(moving, fixed, local, matrix, conventions, steps=self.steps, **self.arguments)
        with torch.no_grad():
            displacement = conventions.displacement(matrix, local)
        return {"affine_matrix": matrix, "local_displacement": local, "displacement": displacement}


def _check(
    steps: int,
    learning_rate: float,
    smoothness_weight: float,
    control_spacing: int,
    max_folded_share: float,
    affine_steps: int = 0,
) -> None:
    numbers = (("steps", steps, 0), ("affine_steps", affine_steps, 0), ("control_spacing", control_spacing, 1))
    for name, value, smallest in numbers:
        if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
            raise ValueError(f"{name} must be an integer of at least {smallest}, got {value!r}")
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be positive, got {learning_rate}")
    if not smoothness_weight >= 0:
        raise ValueError(f"smoothness_weight must not be negative, got {smoothness_weight}")
    if not 0 <= max_folded_share <= 1:
        raise ValueError(f"max_folded_share must be in [0, 1], got {max_folded_share}")
