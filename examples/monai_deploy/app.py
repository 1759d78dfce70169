# SPDX-License-Identifier: Apache-2.0
"""A segmentation bundle as an application of the MONAI Deploy App SDK: a DICOM series in, a DICOM SEG out.

python examples/monai_deploy/app.py --input STUDY --output RESULTS --model BUNDLE

BUNDLE is the folder of an unpacked zip, gvsl_seg_heart for example, with the network as TorchScript in models/model.ts,
which tools.export writes. docs/howto/monai_deploy.md explains it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monai.deploy.conditions import CountCondition
from monai.deploy.core import AppContext, Application
from monai.deploy.core.domain import Image
from monai.deploy.core.io_type import IOType
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator
from monai.deploy.operators.dicom_seg_writer_operator import DICOMSegmentationWriterOperator, SegmentDescription
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator
from monai.deploy.operators.dicom_series_to_volume_operator import DICOMSeriesToVolumeOperator
from monai.deploy.operators.monai_bundle_inference_operator import (
    BundleConfigNames,
    IOMapping,
    MonaiBundleInferenceOperator,
)
from pydicom.sr.coding import Code

STRUCTURES = Path(__file__).resolve().parents[1] / "structures.json"  # DICOM's codes
ANATOMY = Code("123037004", "SCT", "Anatomical Structure")
CONFIGS = ["inference", "deploy"]  # deploy.json has label maps hold the numbers of the segments


class SegmentationApplication(Application):
    """Loads a study, segments its series of the bundle's modality, writes the result."""

    def compose(self) -> None:
        """Connects the operators.

        Raises:
            FileNotFoundError: the bundle has no models/model.ts.
        """
        context = Application.init_app_context(self.argv)
        bundle = Path(context.model_path)
        if not (network := bundle / "models" / "model.ts").is_file():
            raise FileNotFoundError(f"{network} does not exist, expected the network that tools.export writes")
        context.models = None  # the SDK takes the folder for a model without network; the operator reads it as a bundle
        metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
        loader = DICOMDataLoaderOperator(
            self, CountCondition(self, 1), input_folder=Path(context.input_path), name="loader"
        )
        selector = DICOMSeriesSelectorOperator(self, rules=selection(metadata), name="selector")
        volume = DICOMSeriesToVolumeOperator(self, name="volume")
        inference = inference_operator(self, context, bundle)
        writer = DICOMSegmentationWriterOperator(
            self, segment_descriptions=segments(metadata), output_folder=Path(context.output_path), name="writer"
        )
        self.add_flow(loader, selector, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(selector, volume, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(volume, inference, {("image", "image")})
        self.add_flow(selector, writer, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(inference, writer, {("pred", "seg_image")})


def inference_operator(application: Application, context: AppContext, bundle: Path) -> MonaiBundleInferenceOperator:
    """The SDK's operator for a bundle, which applies the transforms of inference.json to a volume in memory."""
    return MonaiBundleInferenceOperator(
        application,
        input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
        output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
        app_context=context,
        bundle_config_names=BundleConfigNames(config_names=CONFIGS),
        bundle_path=bundle,
        name="inference",
    )


def selection(metadata: dict[str, Any]) -> str:
    """The SDK's rule that takes the series of the modality that metadata.json names."""
    modality = metadata["network_data_format"]["inputs"]["image"]["modality"]
    return json.dumps({"selections": [{"name": modality, "conditions": {"Modality": modality}}]})


def segments(metadata: dict[str, Any]) -> list[SegmentDescription]:
    """The segments of a bundle, in the order of their numbers.

    Raises:
        ValueError: a structure has no code in structures.json.
    """
    names = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    codes = json.loads(STRUCTURES.read_text(encoding="utf-8"))
    present = [names[str(number)] for number in range(1, len(names))]
    if unknown := [name for name in present if name not in codes]:
        raise ValueError(f"{STRUCTURES} has no codes of {unknown}, expected one for each structure of the bundle")
    return [
        SegmentDescription(
            segment_label=name,
            segmented_property_category=ANATOMY,
            segmented_property_type=Code(codes[name]["code"], "SCT", codes[name]["meaning"]),
            algorithm_name=metadata["name"],
            algorithm_version=metadata["version"],
        )
        for name in present
    ]


if __name__ == "__main__":
    SegmentationApplication().run()
