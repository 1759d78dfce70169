# SPDX-License-Identifier: Apache-2.0
"""Cases for inference and evaluation: a case that cannot be read does not keep the others from being computed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from monai.data import DataLoader, list_data_collate
from torch.utils.data import Dataset

from .errors import case_error, case_name

logger = logging.getLogger(__name__)


class Failure(NamedTuple):
    """A case without a result.

    Attributes:
        case: path of its volume, or of the two volumes of a pair.
        reason: message of the error.
    """

    case: str
    reason: str

    def __str__(self) -> str:
        return self.reason if self.reason.startswith(self.case) else f"{self.case}: {self.reason}"


class CaseLoader:
    """Batches of the cases that can be read; the others are in `failures`.

    It has no length, because only at its end it is known how many cases can be read.

    Args:
        dataset: cases; `dataset.data` holds their items.
        arguments: of `monai.data.DataLoader`.
    """

    def __init__(self, dataset: Dataset, **arguments: Any) -> None:
        self.dataset = dataset
        self.failures: list[Failure] = []
        self._loader = DataLoader(_WithFailures(dataset), collate_fn=_collate, **arguments)

    def __iter__(self) -> Iterator[Any]:
        self.failures.clear()
        for batch, failures in self._loader:
            for failure in failures:
                self.add_failure(failure)
            if batch is not None:
                yield batch

    def add_failure(self, failure: Failure) -> None:
        """Store and log a failure; a later step that cannot compute a case calls this too."""
        logger.error(f"no result for {failure}")
        self.failures.append(failure)


class _WithFailures(Dataset):
    """A data set that returns a `Failure` for an item that raises an error."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except OSError:  # a cache that cannot be written; errors of volumes are no OSErrors
            raise
        except Exception as error:
            item = self.dataset.data[index]
            return Failure(case_name(item), str(case_error(error, item)))


def _collate(items: Sequence[Any]) -> tuple[Any, list[Failure]]:
    cases = [item for item in items if not isinstance(item, Failure)]
    return list_data_collate(cases) if cases else None, [item for item in items if isinstance(item, Failure)]
