# SPDX-License-Identifier: Apache-2.0
"""The GVSL loss: its terms, weights, ablations, precision, errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from torch.nn import functional as F

from custom.layers import AuthorsConventions
from custom.losses import (
    AuthorsNCCLoss,
    LocalNCCLoss,
    authors_ncc_loss,
    local_ncc_loss,
    matched_contrast,
    smoothness_loss,
)
from custom.pretext import GVSLLoss

SHAPE = (2, 1, 10, 11, 12)


def make(dtype=torch.float32, seed: int = 0) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Outputs and batch of random numbers."""
    generator = torch.Generator().manual_seed(seed)
    outputs = {
        name: torch.rand(SHAPE, dtype=dtype, generator=generator) for name in ("warped", "restored", "affine_warped")
    }
    for name in ("local_displacement", "displacement"):
        outputs[name] = torch.randn(2, 3, *SHAPE[2:], dtype=dtype, generator=generator)
    batch = {
        name: torch.rand(SHAPE, dtype=dtype, generator=generator) for name in ("moving", "moving_transformed", "fixed")
    }
    return outputs, batch


def test_the_terms_and_their_sum():
    outputs, batch = make()
    terms = GVSLLoss()(outputs, batch)
    assert list(terms) == ["loss", "registration", "smoothness", "restoration"]
    torch.testing.assert_close(terms["registration"], local_ncc_loss(outputs["warped"], batch["fixed"]).mean())
    torch.testing.assert_close(terms["smoothness"], smoothness_loss(outputs["local_displacement"]).mean())
    # restored is compared with the clean moving volume, not with what the network saw
    torch.testing.assert_close(terms["restoration"], F.mse_loss(outputs["restored"], batch["moving"]))
    torch.testing.assert_close(terms["loss"], terms["registration"] + terms["smoothness"] + terms["restoration"])
    assert all(term.shape == () for term in terms.values())


def test_weights_count_in_the_sum_only():
    outputs, batch = make()
    plain = GVSLLoss()(outputs, batch)
    loss_function = GVSLLoss(registration_weight=2, smoothness_weight=0.25, restoration_weight=0)
    weighted = loss_function(outputs, batch)
    assert all(torch.equal(weighted[name], plain[name]) for name in plain if name != "loss")
    torch.testing.assert_close(weighted["loss"], 2 * plain["registration"] + 0.25 * plain["smoothness"])


@pytest.mark.parametrize("side", [2, 4])
def test_the_affine_stage_has_a_term_of_its_own_if_it_has_a_weight(side):
    outputs, batch = make()
    plain = GVSLLoss()(outputs, batch)
    assert "affine_registration" not in plain
    terms = GVSLLoss(affine_registration_weight=0.5, affine_downsampling=side)(outputs, batch)
    assert set(terms) - set(plain) == {"affine_registration"}
    coarse = [torch.nn.functional.avg_pool3d(volume, side) for volume in (outputs["affine_warped"], batch["fixed"])]
    expected = local_ncc_loss(*coarse).mean()
    torch.testing.assert_close(terms["affine_registration"], expected)
    torch.testing.assert_close(terms["loss"], plain["loss"] + 0.5 * expected)


def test_arguments_reach_the_terms():
    outputs, batch = make()
    ours = GVSLLoss(correlation=LocalNCCLoss(5, 0.08), smooth_field="displacement")(outputs, batch)
    expected = local_ncc_loss(outputs["warped"], batch["fixed"], 5, 0.08).mean()
    torch.testing.assert_close(ours["registration"], expected)
    torch.testing.assert_close(ours["smoothness"], smoothness_loss(outputs["displacement"]).mean())
    authors = GVSLLoss(correlation=AuthorsNCCLoss(5))(outputs, batch)
    torch.testing.assert_close(authors["registration"], authors_ncc_loss(outputs["warped"], batch["fixed"], 5).mean())


def test_authors_json_replaces_the_geometry_and_the_correlation():
    configs = Path(__file__).resolve().parents[2] / "bundles" / "gvsl_pretrain" / "configs"
    parser = ConfigParser(ConfigParser.load_config_file(configs / "train.json"))
    for overlay in ("paper.json", "authors.json"):
        parser.update(ConfigParser.load_config_file(configs / overlay))
    parser["channels"] = [8, 8, 16, 16, 32]
    assert isinstance(parser.get_parsed_content("matching_head").conventions, AuthorsConventions)
    assert isinstance(parser.get_parsed_content("loss").correlation, AuthorsNCCLoss)
    parser.update({"conventions": "authors"})  # the switch of earlier configs is refused, not ignored
    with pytest.raises(RuntimeError) as error:
        parser.get_parsed_content("matching_head")
    assert "got 'authors'" in str(error.value.__cause__)


def test_missing_outputs_leave_their_terms_out():
    outputs, batch = make()
    whole = GVSLLoss()(outputs, batch)
    restoration = GVSLLoss()({"restored": outputs["restored"]}, batch)
    assert list(restoration) == ["loss", "restoration"]
    assert torch.equal(restoration["loss"], whole["restoration"])
    matching = GVSLLoss()({name: value for name, value in outputs.items() if name != "restored"}, batch)
    assert list(matching) == ["loss", "registration", "smoothness"]
    torch.testing.assert_close(matching["loss"], whole["registration"] + whole["smoothness"])


def test_errors_name_what_was_found():
    _, batch = make()
    with pytest.raises(ValueError, match=r"'warped' or 'restored', got \['bottleneck', 'local'\]"):
        GVSLLoss()({"local": torch.zeros(1), "bottleneck": torch.zeros(1)}, batch)
    with pytest.raises(ValueError, match="'local_displacement' or 'displacement', got 'flow'"):
        GVSLLoss(smooth_field="flow")


def test_the_mean_of_two_batches_of_one():
    outputs, batch = make()

    def item(tensors: dict[str, torch.Tensor], index: int) -> dict[str, torch.Tensor]:
        return {name: tensor[index : index + 1] for name, tensor in tensors.items()}

    whole = GVSLLoss()(outputs, batch)
    single = [GVSLLoss()(item(outputs, i), item(batch, i)) for i in range(2)]
    for name, term in whole.items():
        torch.testing.assert_close(term, (single[0][name] + single[1][name]) / 2)


@pytest.mark.parametrize("correlation", [LocalNCCLoss(), AuthorsNCCLoss()])
def test_autocast_leaves_all_terms_in_float32(correlation):
    outputs, batch = make()
    loss_function = GVSLLoss(correlation=correlation, affine_registration_weight=1)
    expected = loss_function(outputs, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = loss_function(outputs, batch)
    for name, term in terms.items():
        assert term.dtype == torch.float32 and torch.equal(term, expected[name]), name


def test_outputs_in_half_precision_are_compared_in_float32():
    outputs, batch = make()
    narrow = {name: value.to(torch.bfloat16) for name, value in outputs.items()}
    expected = GVSLLoss()({name: value.float() for name, value in narrow.items()}, batch)
    for name, term in GVSLLoss()(narrow, batch).items():
        assert term.dtype == torch.float32 and torch.equal(term, expected[name]), name


def test_gradcheck():
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.rand(1, 1, 3, 4, 3, dtype=torch.float64, generator=generator) for _ in range(4)]
    field = torch.randn(1, 3, 3, 4, 3, dtype=torch.float64, generator=generator)
    warped, restored, moving, fixed = (tensor.requires_grad_() for tensor in tensors)

    def loss(warped, restored, field, moving, fixed):
        outputs = {"warped": warped, "restored": restored, "local_displacement": field}
        return GVSLLoss(correlation=LocalNCCLoss(3))(outputs, {"moving": moving, "fixed": fixed})["loss"]

    assert torch.autograd.gradcheck(loss, (warped, restored, field.requires_grad_(), moving, fixed))


def test_the_contrast_has_a_weight_and_reaches_the_features():
    outputs, batch = make()
    plain = GVSLLoss(contrast_weight=0.5)(outputs, batch)
    assert "contrast" not in plain  # without places there is none
    generator = torch.Generator().manual_seed(0)
    places = {name: F.normalize(torch.randn(2, 4, 9, generator=generator), dim=1) for name in ("moving", "fixed")}
    outputs |= {f"{name}_places": features.requires_grad_() for name, features in places.items()}
    outputs |= {"position": 9 * torch.rand(2, 3, 9, generator=generator), "valid": torch.ones(2, 9, dtype=torch.bool)}
    assert "contrast" not in GVSLLoss()(outputs, batch)
    terms = GVSLLoss(contrast_weight=0.5)(outputs, batch)
    expected = matched_contrast(*(outputs[name] for name in ("moving_places", "fixed_places", "position", "valid")))
    torch.testing.assert_close(terms["contrast"], expected.mean())
    torch.testing.assert_close(terms["loss"], plain["loss"] + 0.5 * expected.mean())
    terms["contrast"].backward()
    assert all(features.grad.abs().max() > 0 for features in places.values())
