# SPDX-License-Identifier: Apache-2.0
"""Evaluators that compute all the cases they can, and then raise one error that lists the others."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from monai.data import decollate_batch
from monai.engines import SupervisedEvaluator

from ..data.cases import CaseLoader, Failure
from ..data.errors import case_name, innermost
from .evaluator import PretextEvaluator
from .mixed_precision import MixedPrecisionEvaluator

LISTED = 50  # failures in the message of the last error; all are in the log


class CasesFailed(RuntimeError):
    """Some cases have no result. The message lists them with their reasons."""


class _SkipsFailedCases(SupervisedEvaluator):
    """Goes on after a case that cannot be loaded, computed or transformed; its `val_data_loader` is a `CaseLoader`.

    Handlers and metrics see the other cases only. An OSError ends the run: no result can be written then.

    Raises (at the end of the run):
        CasesFailed: cases have no result.
    """

    data_loader: CaseLoader

    def run(self, global_epoch: int = 1) -> None:
        try:
            super().run(global_epoch)
        except OSError:
            raise
        except Exception as error:
            if self.data_loader.failures:
                raise CasesFailed(self._listed(error)) from error
            raise
        if self.data_loader.failures:
            raise CasesFailed(self._listed(None))

    def _iteration(self, engine: Engine, batchdata: Any) -> Any:
        try:
            return super()._iteration(engine, batchdata)
        except OSError:
            raise
        except Exception as error:
            inner = innermost(error)
            for name in self._names(batchdata):
                self.data_loader.add_failure(Failure(name, f"{type(inner).__name__}: {inner}"))
            self.state.batch = []
            return []

    def _fire_event(self, event_name: Any, *arguments: Any, **named: Any) -> None:
        """Leave out the handlers of an iteration without a result; ignite has no public way to do so."""
        if event_name != Events.ITERATION_COMPLETED or self.state.output != []:
            super()._fire_event(event_name, *arguments, **named)

    def _names(self, batch: Any) -> list[str]:
        if "index" in batch:
            data = self.data_loader.dataset.data
            return [case_name(data[index]) for index in batch["index"].tolist()]
        return [case_name(item) for item in decollate_batch(batch)]

    def _listed(self, error: Exception | None) -> str:
        failures = self.data_loader.failures
        different = list(dict.fromkeys(map(str, failures)))  # pairs of one bad volume fail alike
        lines = different[:LISTED]
        if len(different) > LISTED:
            lines.insert(0, f"(the first {LISTED}; all are in the log)")
        total, done = len(self.data_loader.dataset), len(self.data_loader.dataset) - len(failures)
        unit = getattr(self.data_loader.dataset, "unit", "case")
        if not done:
            first = f"none of {total} {unit}s has a result:"
        elif error is None:
            first = f"{len(failures)} of {total} {unit}s have no result, those of the others are written:"
        else:
            first = f"{innermost(error)}; and {len(failures)} of {total} {unit}s have no result:"
        lines.insert(0, first)
        return "\n  ".join(lines)


class CaseEvaluator(_SkipsFailedCases, MixedPrecisionEvaluator):
    """`MixedPrecisionEvaluator` that goes on after a bad case, and raises `CasesFailed` at the end."""


class CasePretextEvaluator(_SkipsFailedCases, PretextEvaluator):
    """`PretextEvaluator` that goes on after a bad pair, and raises `CasesFailed` at the end."""
