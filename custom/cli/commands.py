# SPDX-License-Identifier: Apache-2.0
"""The commands of gvsl: which config files each runs, and how its arguments become overrides.

Every argument is text, as it was typed. The docstring of a command is its help.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..files import read_json
from ..shipped import find_bundle, find_weights, shipped_bundles, short_name
from .config_run import ConfigRun, path_text, shown

OUTPUT = "gvsl_output"  # in the working directory
PRETRAIN = "pretrain"  # short name of the bundle that needs no labels
MODELS = "models"
# configs that are not laid over train.json here; multi_gpu_train needs torchrun
NO_OVERLAYS = {"train", "inference", "register", "propagate", "evaluate", "metadata", "deploy", "multi_gpu_train"}


def segment(bundle: str, input: str, *, output: str = "", weights: str = "", **overrides: str) -> ConfigRun:
    """Segment a volume, or every volume of a folder; writes a label map for each.

    usage: gvsl segment BUNDLE INPUT ...

      BUNDLE         heart, coronary or brain
      INPUT          a volume (NIfTI, NRRD, MetaImage, DICOM folder), or a folder of volumes
      -o, --output   folder of the results (default: gvsl_output/segment_BUNDLE)
      --weights      folder with model.pt and model.json, or the name of a bundle for the weights that came with it
                     (default: gvsl_output/finetune_BUNDLE where it has weights, else those that came with the bundle)
      --KEY VALUE    any other key of the config, such as --device cpu

    example: gvsl segment heart ct.nii.gz -o out
    """
    return _inference("segment", _bundle(bundle, "gvsl_seg_"), input, output, weights, overrides)


def classify(bundle: str, input: str, *, output: str = "", weights: str = "", **overrides: str) -> ConfigRun:
    """Classify a volume, or every volume of a folder; writes a table with the scores of the classes.

    usage: gvsl classify BUNDLE INPUT ...

      BUNDLE         covid
      INPUT          a volume (NIfTI, NRRD, MetaImage, DICOM folder), or a folder of volumes
      -o, --output   folder of the results (default: gvsl_output/classify_BUNDLE)
      --weights      folder with model.pt and model.json, or the name of a bundle for the weights that came with it
                     (default: gvsl_output/finetune_BUNDLE where it has weights, else those that came with the bundle)
      --KEY VALUE    any other key of the config, such as --device cpu

    example: gvsl classify covid chest_cts/
    """
    return _inference("classify", _bundle(bundle, "", "_cls"), input, output, weights, overrides)


def features(input: str, *, output: str = "", weights: str = "", **overrides: str) -> ConfigRun:
    """Compute the features of the pre-trained network in each voxel of a volume, or of every volume of a folder.

    usage: gvsl features INPUT ...

      INPUT          a volume (NIfTI, NRRD, MetaImage, DICOM folder), or a folder of volumes
      -o, --output   folder of the results (default: gvsl_output/features)
      --weights      folder with model.pt and model.json, or pretrain (chest CT) or pretrain/brain (T1 MR) for the
                     weights that came with this package (default: gvsl_output/pretrain where it has weights, else
                     pretrain)
      --KEY VALUE    any other key of the config, such as --device cpu

    example: gvsl features ct.nii.gz -o out
    """
    return _inference("features", _bundle(PRETRAIN), input, output, weights, overrides)


def register(
    moving: str,
    fixed: str,
    *,
    output: str = "",
    refine: str = "",
    moving_label: str = "",
    fixed_label: str = "",
    weights: str = "",
    **overrides: str,
) -> ConfigRun:
    """Register a moving volume to a fixed one; writes the warped volume and the displacement field.

    usage: gvsl register MOVING FIXED ...

      MOVING          the volume to move (NIfTI, NRRD, MetaImage, DICOM folder)
      FIXED           the volume that stays
      -o, --output    folder of the results (default: gvsl_output/register)
      --refine        steps of optimisation for this pair after the network, such as 100 (default: 0)
      --moving_label  label map of the moving volume, which is warped too
      --fixed_label   label map of the fixed volume; with both, Dice is measured
      --weights       folder with model.pt, heads.pt and model.json, or pretrain (chest CT) or pretrain/brain (T1 MR)
                      for the weights that came with this package (default: gvsl_output/pretrain where it has weights,
                      else pretrain)
      --KEY VALUE     any other key of the config, such as --device cpu

    example: gvsl register moving.nii.gz fixed.nii.gz -o out --refine 100
    """
    bundle = _bundle(PRETRAIN)
    paths = {"moving": moving, "fixed": fixed, "moving_label": moving_label, "fixed_label": fixed_label}
    chosen = {name: path_text(path) for name, path in paths.items() if path}
    chosen |= {"model_dir": _weights(bundle, weights)} | ({"refine": refine} if refine else {})
    return ConfigRun(bundle, ("register.json",), chosen | _output(output, "register") | overrides)


def propagate(
    atlases: str, volumes: str, *, output: str = "", refine: str = "20", weights: str = "", **overrides: str
) -> ConfigRun:
    """Label a volume, or every volume of a folder, from a few labelled ones, which are registered to it and vote.

    usage: gvsl propagate ATLASES VOLUMES ...

      ATLASES        folder of labelled volumes; of lists, its list "training"
      VOLUMES        a volume (NIfTI, NRRD, MetaImage, DICOM folder), or a folder of volumes
      -o, --output   folder of the results (default: gvsl_output/propagate)
      --refine       steps of optimisation for each pair after the network (default: 20)
      --weights      folder with model.pt, heads.pt and model.json, or pretrain (chest CT) or pretrain/brain (T1 MR)
                     for the weights that came with this package (default: gvsl_output/pretrain where it has weights,
                     else pretrain)
      --KEY VALUE    any other key of the config, such as --device cpu

    example: gvsl propagate labelled/ unlabelled/ -o labels --weights pretrain/brain
    """
    bundle = _bundle(PRETRAIN)
    chosen = {"atlas_dir": path_text(atlases), "dataset_dir": path_text(volumes), "refine": refine}
    chosen |= {"model_dir": _weights(bundle, weights)} | _output(output, "propagate") | overrides
    return ConfigRun(bundle, ("register.json", "propagate.json"), chosen)


def pretrain(folder: str = "", *, output: str = "", overlay: str = "", **overrides: str) -> ConfigRun:
    """Pre-train a network on the volumes of a folder, without labels.

    usage: gvsl pretrain [FOLDER] ...

      FOLDER         folder of volumes (default: synthetic volumes, drawn into gvsl_output/phantoms)
      -o, --output   folder of the results (default: gvsl_output/pretrain)
      --overlay      names of config files to put on top, with commas, such as mr for MR
      --KEY VALUE    any other key of the config, such as --max_epochs 100

    example: gvsl pretrain unlabelled/ --overlay mr
    """
    return _training("pretrain", _bundle(PRETRAIN), folder, output, overlay, overrides)


def finetune(
    bundle: str, folder: str = "", *, output: str = "", weights: str = "", overlay: str = "", **overrides: str
) -> ConfigRun:
    """Fine-tune a pre-trained network on the labelled volumes of a folder.

    usage: gvsl finetune BUNDLE [FOLDER] ...

      BUNDLE         heart, coronary or brain for segmentation, covid for classification
      FOLDER         folder of labelled volumes (default: synthetic volumes, drawn into gvsl_output/phantoms)
      -o, --output   folder of the results (default: gvsl_output/finetune_BUNDLE)
      --weights      pre-trained weights: folder with model.pt and model.json, or pretrain (chest CT) or pretrain/brain
                     (T1 MR) for those that came with this package (default: gvsl_output/pretrain where it has weights,
                     else those that came with the bundle)
      --overlay      names of config files to put on top, with commas, such as linear or scratch
      --KEY VALUE    any other key of the config, such as --max_epochs 100

    example: gvsl finetune heart labelled/
    """
    found = _bundle(bundle, "", "", PRETRAIN)
    chosen = _pretrained(found, weights, overlay) | overrides
    return _training(f"finetune_{short_name(found.name)}", found, folder, output, overlay, chosen)


def evaluate(
    bundle: str, folder: str = "", *, output: str = "", weights: str = "", overlay: str = "", **overrides: str
) -> ConfigRun:
    """Evaluate weights on the held-out volumes of a folder.

    usage: gvsl evaluate BUNDLE [FOLDER] ...

      BUNDLE         heart, coronary, brain or covid; pretrain for the registration of held-out pairs
      FOLDER         folder of labelled volumes (default: synthetic volumes, drawn into gvsl_output/phantoms)
      -o, --output   folder of the results (default: gvsl_output/evaluate_BUNDLE)
      --weights      folder with model.pt and model.json, or the name of a bundle for the weights that came with it
                     (default: gvsl_output/finetune_BUNDLE, or gvsl_output/pretrain, where it has weights, else those
                     that came with the bundle)
      --overlay      names of config files that were on top in training, with commas
      --KEY VALUE    any other key of the config; those that split the volumes (--test_share, --validation_share,
                     --seed) as in training

    example: gvsl evaluate heart labelled/
    """
    found = _bundle(bundle)
    chosen = {"model_dir": _weights(found, weights)} | overrides
    run = _training(f"evaluate_{short_name(found.name)}", found, folder, output, overlay, chosen)
    return run._replace(files=(*run.files, "evaluate.json"))


def _inference(
    command: str, bundle: Path, volumes: str, output: str, weights: str, overrides: dict[str, str]
) -> ConfigRun:
    name = command if short_name(bundle.name) == PRETRAIN else f"{command}_{short_name(bundle.name)}"
    chosen = {"dataset_dir": path_text(volumes), "model_dir": _weights(bundle, weights), **_output(output, name)}
    return ConfigRun(bundle, ("inference.json",), chosen | overrides)


def _training(name: str, bundle: Path, folder: str, output: str, overlay: str, overrides: dict[str, str]) -> ConfigRun:
    """A run of train.json with overlays, whose data are a folder or phantoms below the working directory."""
    files = ("train.json", *(_overlay(bundle, entry) for entry in overlay.split(",") if entry))
    cohorts = [Path(file).stem for file in files[1:] if "cohort" in read_json(bundle / "configs" / file)]
    phantoms = os.path.join(OUTPUT, "phantoms", "_".join((short_name(bundle.name), *cohorts)))
    data = {"dataset_dir": path_text(folder)} if folder else {"dataset_dir": phantoms, "cohort#root": phantoms}
    cache = {"overflow_dir": os.path.join(OUTPUT, "cache")}
    return ConfigRun(bundle, files, data | _output(output, name) | cache | overrides)


def _output(output: str, name: str) -> dict[str, str]:
    return {"output_dir": path_text(output or os.path.join(OUTPUT, name))}


def _bundle(name: str, start: str = "", end: str = "", without: str = "") -> Path:
    """The folder of a bundle, by its short or full name, among those whose full name has this start and end."""
    fitting = {
        short: folder
        for short, folder in shipped_bundles().items()
        if folder.name.startswith(start) and folder.name.endswith(end) and short != without
    }
    found = find_bundle(name)
    if found not in fitting.values():
        raise ValueError(f"{name!r} is no bundle for this command, expected one of {', '.join(fitting)}")
    return found


def _weights(bundle: Path, weights: str) -> str:
    """The folder of weights: the given one, that of a name, what was trained here, or what was shipped."""
    if weights:
        return _named(weights)
    name = short_name(bundle.name)
    return _trained(PRETRAIN if name == PRETRAIN else f"finetune_{name}") or shown(bundle / MODELS)


def _pretrained(bundle: Path, weights: str, overlay: str) -> dict[str, str]:
    """The weights that fine-tuning starts from; nothing for those of the bundle, which train.json names itself."""
    if not weights and "scratch" in overlay.split(","):
        return {}
    shipped = find_weights(weights)
    if shipped is not None and _file(shipped, "model") == _file(bundle / MODELS, "backbone"):
        return {}
    folder = _named(weights) if weights else _trained(PRETRAIN)
    return {"pretrained_weights": folder} if folder else {}


def _named(weights: str) -> str:
    """A folder of weights by its path or by the name of shipped weights."""
    found = find_weights(weights)
    return path_text(weights if found is None else shown(found))


def _trained(name: str) -> str:
    """The folder of weights of a run in the working directory, or nothing."""
    folder = os.path.join(OUTPUT, name)
    return folder if os.path.isfile(os.path.join(folder, "model.json")) else ""


def _file(folder: Path, name: str) -> dict[str, str]:
    """What NAME.json says of NAME.pt, its hash among it."""
    return read_json(folder / f"{name}.json", "the description of weights")["files"][f"{name}.pt"]


def _overlay(bundle: Path, name: str) -> str:
    """The file of an overlay below configs/."""
    configs = bundle / "configs"
    known = {path.relative_to(configs).with_suffix("").as_posix() for path in configs.rglob("*.json")}
    overlays = sorted(known - NO_OVERLAYS)
    if name not in overlays:
        raise ValueError(f"overlay is {name!r}, expected one of {', '.join(overlays)}")
    return f"{name}.json"
