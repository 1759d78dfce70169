# SPDX-License-Identifier: Apache-2.0
"""The predicted volumes of inference as NIfTI files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..volumes import write_volume
from .case_files import CaseFiles


class PredictionFiles(CaseFiles):
    """Writes "pred" of each case as OUTPUT_POSTFIX.nii.gz, on the grid of its affine.

    OUTPUT is the path of the volume below the data folder (`custom.data.inference_data`), so no file replaces another.
    One channel becomes a 3D file; several become the last axis.

    Args:
        directory: where the files go.
        data: see `CaseFiles`.
        weights: see `CaseFiles`.
        postfix: end of the file names.
        dtype: NumPy type of the voxels.
    """

    def __init__(
        self, directory: str, data: Sequence[Mapping[str, Any]], weights: str, postfix: str, dtype: str = "float32"
    ) -> None:
        super().__init__(directory, data, weights)
        self.postfix = postfix
        self.dtype = np.dtype(dtype)

    def output_of(self, item: Mapping[str, Any]) -> str:
        return f"{item['output']}_{self.postfix}.nii.gz"

    def write_case(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        volume = output["pred"].detach().cpu()
        array = np.moveaxis(volume.as_tensor().numpy(), 0, -1).astype(self.dtype, copy=False)
        array = array[..., 0] if array.shape[-1] == 1 else array
        affine = np.asarray(volume.affine, dtype=np.float64)
        write_volume(self.directory / self.output_of(item), array, affine, allow_shear=True)
