# SPDX-License-Identifier: Apache-2.0
"""The evaluator: measures without gradient and without touching the network."""

from __future__ import annotations

import pytest
import torch

from custom.engines import PrepareBatch, PretextEvaluator
from custom.handlers import MeanOutputs
from custom.metrics import RegistrationMeasures
from custom.pretext import GVSLLoss


@pytest.fixture
def make(make_pretext, random_pairs):
    """Function that makes an evaluator over two batches of two pairs."""

    def make(**arguments) -> PretextEvaluator:
        network = arguments.pop("network", None) or make_pretext()
        batches = [random_pairs(2, (8, 8, 8), seed) for seed in range(2)]
        return PretextEvaluator(
            device=torch.device("cpu"),
            val_data_loader=batches,
            network=network,
            prepare_batch=PrepareBatch(),
            **{"loss_function": GVSLLoss(), **arguments},
        )

    return make


def test_outputs_terms_and_measures(make):
    evaluator = make()
    evaluator.measures = (RegistrationMeasures(evaluator.network.matching_head), lambda o, b: {"sum": b["fixed"].sum()})
    evaluator.run()
    output, batch = evaluator.state.output, evaluator.state.batch
    with torch.no_grad():
        expected = evaluator.network(batch)
        expected |= GVSLLoss()(expected, batch) | evaluator.measures[0](expected, batch) | {"sum": batch["fixed"].sum()}
    assert set(output) == set(expected)
    for name, value in expected.items():
        assert torch.equal(output[name], value), name
        assert not output[name].requires_grad


def test_the_network_is_evaluated_and_left_as_it_was(make, make_pretext):
    modes = []
    network = make_pretext()
    network.register_forward_hook(lambda module, *_: modes.append((module.training, torch.is_grad_enabled())))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    make(network=network).run()
    assert modes == [(False, False)] * 2
    assert network.training and torch.is_grad_enabled()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_measures_see_no_gradient(make):
    modes = []
    make(measures=[lambda *_: modes.append(torch.is_grad_enabled()) or {}]).run()
    assert modes == [False, False]


def test_without_loss(make):
    evaluator = make(loss_function=None)
    evaluator.run()
    assert "loss" not in evaluator.state.output and "displacement" in evaluator.state.output


def test_amp_switches_autocast_for_the_network_only(make):
    evaluator = make(amp=True, amp_kwargs={"dtype": torch.bfloat16})
    enabled = []
    evaluator.measures = (lambda *_: enabled.append(torch.is_autocast_enabled("cpu")) or {},)
    evaluator.run()
    assert evaluator.state.output["local"].dtype == torch.bfloat16
    assert evaluator.state.output["warped"].dtype == evaluator.state.output["loss"].dtype == torch.float32
    assert enabled == [False, False]


def test_two_runs_give_the_same_means_and_draw_no_random_numbers(make):
    evaluator = make()
    evaluator.measures = (RegistrationMeasures(evaluator.network.matching_head),)
    MeanOutputs().attach(evaluator)
    state = torch.get_rng_state()
    evaluator.run(1)
    first = dict(evaluator.state.metrics)
    evaluator.run(2)
    assert evaluator.state.metrics == first and {"loss", "registration", "registration_after"} <= set(first)
    assert torch.equal(torch.get_rng_state(), state)
