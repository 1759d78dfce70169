# SPDX-License-Identifier: Apache-2.0
"""What the paper or a bundle's documentation says about each config: keys of the merged config and their values.

The paper is He et al., CVPR 2023, main text and appendices; where it is silent, the authors' released code is followed.
"""

from __future__ import annotations

from typing import Any

CONSTANT_RATE = {"_target_": "torch.optim.lr_scheduler.ConstantLR", "optimizer": "@optimizer", "factor": 1.0}
COSINE = {
    "optimizer#_target_": "torch.optim.Adam",
    "lr_scheduler#_target_": "monai.optimizers.WarmupCosineSchedule",
}
CT = {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -1024, "a_max": 1024, "b_min": 0.0, "b_max": 1.0}
CT |= {"clip": True}
PERCENTILES = {"_target_": "ScaleIntensityRangePercentilesd", "keys": "image", "lower": 0.5, "upper": 99.5}
PERCENTILES |= {"b_min": 0.0, "b_max": 1.0, "clip": True}
SPLITS = {"train#dataset#data": "$@data['training']", "validate#dataset#data": "$@data['validation']"}
NETWORK = {"channels": [16, 16, 32, 64, 128]}
SMALL = {**NETWORK, "spacing": [3.5, 3.5, 3.5], "patch_size": [48, 48, 48], "batch_size": 1}

# ------------------------------------------------------------------------------------------------- pre-training

LOSS = {"_target_": "custom.pretext.GVSLLoss", "affine_downsampling": 4}
LOSS |= {"correlation": {"_target_": "custom.losses.LocalNCCLoss", "window": 9}}
LOSS |= {"registration_weight": 1.0, "restoration_weight": 1.0}
LOSS |= {"contrast": {"_target_": "custom.losses.MatchedContrastLoss", "exclusion": 3.0, "temperature": 0.1}}
SET_BY_PAPER = ("smoothness_weight", "affine_registration_weight", "smooth_field", "contrast_weight")
LOSS |= {name: f"@{name}" for name in SET_BY_PAPER}
SPATIAL = {"_target_": "custom.transforms.RandSpatialTransform", "spacing": "@spacing", "mode": "@spatial_mode"}
SPATIAL |= {"translation": 0.1, "elastic_rms": 2.0, "elastic_smoothing": 12.0}
# widths 32 to 512, 1 mm, Adam at a constant 1e-4
FULL_SIZE = {
    "channels": [32, 64, 128, 256, 512],
    "spacing": [1.0, 1.0, 1.0],
    "learning_rate": 1e-4,
    "optimizer#_target_": "torch.optim.Adam",
    "lr_scheduler": CONSTANT_RATE,
    "num_workers": 8,
    "iterations_per_epoch": 200,
}
RECOVERY_ALONE = {"measures": [{"_target_": "custom.metrics.LabelRecovery", "labels": "@labels"}]}
VIEWS = RECOVERY_ALONE | {
    "batch_size": 2,
    "has_unused_parameters": True,
    "train#pair_transform#transforms#_target_": "custom.transforms.two_views",
    "train#spatial_transform#groups": [["moving"], ["moving_view"], ["fixed"], ["fixed_view"]],
    "train#spatial_transform#mode": "independent",
}
DAMAGED = RECOVERY_ALONE | {
    "train#spatial_transform#groups": [["moving", "moving_transformed"], ["fixed", "fixed_transformed"]],
    "train#spatial_transform#mode": "independent",
}
ALONE = RECOVERY_ALONE | {
    "has_unused_parameters": True,
    "train#spatial_transform#groups": [["moving"], ["fixed"]],
    "train#spatial_transform#mode": "independent",
}


def steps(*indices: int, **arguments: Any) -> dict[str, Any]:
    """Arguments of the pair transforms at some indices: those of the moving and of the fixed volume are equal."""
    prefixes = [f"train#pair_transform#transforms#{index}" for index in indices]
    return {f"{prefix}#{name}": value for prefix in prefixes for name, value in arguments.items()}


PRETRAIN: dict[str, dict[str, Any]] = {
    "train.json": {
        **SPLITS,
        **SMALL,
        **COSINE,
        "cohort#subjects": 24,
        "cohort#seed": 0,
        "labels#default": [205, 420, 500, 550, 600, 820, 850],
        "validation_share": 0.25,
        "validation_pairs": 8,
        "intensity": CT,
        "conventions": {"_target_": "custom.layers.PhysicalConventions", "spacing": "@spacing"},
        "matching_head#affine_head": "@affine_head",
        "affine_head#_target_": "custom.networks.KeypointAffineHead",
        "affine_head#stride": 16,
        "matching_head#deformable_head": "@deformable_head",
        "deformable_head#_target_": "custom.networks.SimilarityHead",
        "deformable_head#in_channels": 16,
        "deformable_head#embedding_channels": 16,
        "deformable_head#levels": [[2, 3], [1, 1]],
        "deformable_head#temperature": 0.04,
        "pretext_network#places": "@places",
        "places": 2048,
        "loss": LOSS,
        "smoothness_weight": 1.0,
        "affine_registration_weight": 6.0,
        "contrast_weight": 0.03,
        "smooth_field": "local_displacement",
        "learning_rate": 0.001,
        "warmup_iterations": 60,
        "lr_cycles": 0.5,
        "lr_scheduler#cycles": "@lr_cycles",
        "max_epochs": 15,
        "iterations_per_epoch": 20,
        "val_interval": 5,
        "spatial_mode": "independent",
        "train#spatial_transform": SPATIAL | {"rotation_degrees": 15.0, "scale": [0.8, 1.2], "shear_degrees": 4.0},
    },
    # 2 pairs of 128^3, 2 x 10^5 iterations, all weights 1, the fused field smooth, the code's one transform for a pair
    "paper.json": {
        **FULL_SIZE,
        "patch_size": [128, 128, 128],
        "batch_size": 2,
        "recompute": True,
        "max_epochs": 1000,
        "matching_head#affine_head": "@affine_head",
        "affine_head#_target_": "custom.networks.AffineHead",
        "affine_head#in_channels": 512,
        "affine_head#channels": 256,
        "matching_head#deformable_head": "@deformable_head",
        "deformable_head#_target_": "custom.networks.DeformableHead",
        "deformable_head#in_channels": 32,
        "pretext_network#places": "@places",
        "places": 0,
        "loss": LOSS,
        "smoothness_weight": 1.0,
        "affine_registration_weight": 0.0,
        "contrast_weight": 0.0,
        "smooth_field": "displacement",
        "spatial_mode": "shared",
        "train#spatial_transform": SPATIAL | {"rotation_degrees": 20.0, "scale": [0.75, 1.25], "shear_degrees": 10.0},
    },
    "release.json": {"max_epochs": 45, "iterations_per_epoch": 20, "val_interval": 5},
    "mr.json": {"spacing": [1.0, 1.0, 1.0], "intensity": PERCENTILES},
    "brain.json": {
        "cohort#_target_": "custom.phantoms.BrainPhantomCohort",
        "cohort#subjects": 24,
        "cohort#seed": 0,
        "labels": [2, 3, 4, 7, 8, *range(10, 19), 24, 28, 41, 42, 43, 46, 47, 49, 50, 51, 52, 53, 54, 60],
        "spacing": [3.0, 3.0, 3.0],
        "patch_size": [48, 64, 48],
        "intensity": PERCENTILES,
    },
    # nnU-Net's ResEnc L: nnUNetPlannerResEncL with a patch of 128^3
    "nnunet.json": {
        "channels": [32, 64, 128, 256, 320, 320],
        "spacing": [1.0, 1.0, 1.0],
        "patch_size": [128, 128, 128],
        "network_def#_target_": "custom.networks.ResidualEncoderBackbone",
        "network_def#blocks": [1, 3, 4, 6, 6, 6],
        "has_unused_parameters": True,
    },
    "authors.json": {
        "conventions": {"_target_": "custom.layers.AuthorsConventions"},
        "loss#correlation": {"_target_": "custom.losses.AuthorsNCCLoss"},
    },
    "evaluate.json": {"validate#dataset#data": "$@data['validation']"},
    # the methods of the comparison at full size; the module of each says which numbers are its paper's
    "pretext/denoising.json": DAMAGED
    | {"loss#_target_": "custom.pretext.restoration.RestorationLoss"}
    | steps(2, 3, std=0.2, prob=1.0, sample_std=False),
    "pretext/in_painting.json": DAMAGED
    | {"loss#_target_": "custom.pretext.restoration.InPaintingLoss"}
    | steps(2, 3, max_boxes=16, box_fraction=[0.15, 0.35], next_box_prob=1.0, prob=1.0),
    "pretext/models_genesis.json": DAMAGED
    | {"loss#_target_": "custom.pretext.restoration.RestorationLoss"}
    | steps(2, 5, density=1.87, prob=0.5)
    | steps(3, 6, invert_prob=0.5, prob=0.9)
    | steps(4, 7, weights=[0.2, 0.8])
    | {
        f"train#pair_transform#transforms#{index}#transforms#{name}": value
        for index in (4, 7)
        for name, value in (
            *(("0#max_boxes", 5), ("0#box_fraction", (1 / 6, 1 / 3)), ("0#prob", 0.9)),
            *(("1#_target_", "custom.transforms.RandOutPaintingd"), ("1#prob", 0.9)),
        )
    },
    "pretext/rotation.json": ALONE
    | {"pretext_network#channels": 512, "pretext_network#rotations": 10, "pretext_network#copies": 4},
    "pretext/deep_cluster.json": ALONE
    | {
        "pretext_network#channels": 512,
        "pretext_network#clusters": 16,
        "pretext_network#volumes": "$len(@data['training'])",
        "pretext_network#block_size#parts": 2,
        "pretext_network#block_size#multiple": 16,
        "lr_cycles": 0.0,  # a constant rate, also where the schedule is train.json's
        "optimizer#params#0": {"params": "$@pretext_network.backbone.parameters()"},
        "optimizer#params#1#params": "$@pretext_network.classifier.parameters()",
        "optimizer#params#1#lr": 10 * 1e-4,
        "train#handlers#-1#volumes": "$@train#dataset.volumes",
    },
    "pretext/simclr.json": VIEWS
    | {
        "loss": {"_target_": "custom.pretext.simclr.NTXentLoss", "temperature": 0.1},
        "pretext_network#projector#in_channels": 512,
        "pretext_network#projector#hidden_channels": 512,
        "pretext_network#projector#out_channels": 128,
    },
    "pretext/simsiam.json": VIEWS
    | {
        "pretext_network#projector#in_channels": 512,
        "pretext_network#projector#hidden_channels": 512,
        "pretext_network#projector#out_channels": 512,
        "pretext_network#projector#layers": 3,
        "pretext_network#predictor#in_channels": 512,
        "pretext_network#predictor#hidden_channels": 128,
        "pretext_network#predictor#out_channels": 512,
    },
    "pretext/byol.json": VIEWS
    | {
        "pretext_network#projector#in_channels": 512,
        "pretext_network#projector#hidden_channels": 1024,
        "pretext_network#projector#out_channels": 256,
        "pretext_network#predictor#in_channels": 256,
        "pretext_network#predictor#hidden_channels": 1024,
        "pretext_network#predictor#out_channels": 256,
        "train#handlers#-1#base_momentum": 0.99,
    },
    "pretext/without_affine.json": {"matching_head#affine_head": None, "loss#affine_registration_weight": 0.0},
    "pretext/without_matching.json": RECOVERY_ALONE | {"pretext_network#matching_head": None},
    "pretext/without_restoration.json": {"pretext_network#restoration_head": None},
}

# --------------------------------------------------------------------------------------------------- downstream

TO_ONE_HOT = {"to_onehot_y": True, "softmax": True}
MEAN_DICE = {"_target_": "MeanDice", "include_background": False, "num_classes": "@classes"}
MEAN_DICE |= {"output_transform": "$monai.handlers.from_engine(['pred', 'label'])"}
DOWNSTREAM = {
    **SPLITS,
    **NETWORK,
    **COSINE,
    "pretrained_weights": "$@bundle_root + '/models/backbone.pt'",
    "frozen": False,
    "cohort#seed": 1,  # not that of pre-training
    "intensity": CT,
}


def crops(index: int, **arguments: Any) -> dict[str, Any]:
    """Arguments of the random transform at an index."""
    return {f"train#random_transform#transforms#{index}#{name}": value for name, value in arguments.items()}


# the convolution of linear evaluation is 1^3; no flips, since left and right are different structures
SEGMENTATION = {
    **DOWNSTREAM,
    **SMALL,
    "pretrained_parts": ["encoder"],
    "background_values": [],
    "validation_share": 0.15,
    "test_share": 0.25,
    "network_def#kernel_size": 1,
    "loss#_target_": "DiceCELoss",
    "loss#softmax": True,
    "learning_rate": 0.003,
    "head_learning_rate": 0.003,
    "warmup_iterations": 40,
    "max_epochs": 15,
    "iterations_per_epoch": 40,
    "val_interval": 3,
    "validate#key_metric": {"mean_dice": MEAN_DICE},
    "validate#inferer#roi_size": [48, 48, 48],
    "validate#inferer#overlap": 0.5,
    **crops(1, rotate_range=[0.2] * 3, scale_range=[0.1] * 3, prob=0.5),
    **crops(2, factors=0.05, prob=0.5),
    **crops(3, offsets=0.03, prob=0.5),
    **crops(4, std=0.01, prob=0.3),
}
# batch 1, 4 x 10^4 iterations, validation every 200, the whole backbone trained at the rate of the head
PAPER = {
    **FULL_SIZE,
    "batch_size": 1,
    "max_epochs": 200,
    "val_interval": 1,
    "pretrained_parts": [],
    "head_learning_rate": 1e-4,
    "optimizer#params#1#lr": 1e-4,
}
# crops of 128^3, Dice loss after a softmax, windows that overlap by one half
PAPER_SEGMENTATION = {
    **PAPER,
    "patch_size": [128, 128, 128],
    "loss": {"_target_": "DiceLoss", **TO_ONE_HOT},
    "network_def#kernel_size": 1,
    "validate#key_metric": {"mean_dice": MEAN_DICE},
    "validate#inferer#roi_size": [128, 128, 128],
    "validate#inferer#overlap": 0.5,
}
OVERLAYS: dict[str, dict[str, Any]] = {
    "linear.json": {"frozen": True, "network_def#frozen": True},
    "scratch.json": {"pretrained_weights": None},
    "evaluate.json": {"validate#dataset#data": "$@data['test']", "pretrained_weights": None, "accept_mismatch": []},
}
SEGMENTATION_OVERLAYS = OVERLAYS | {"paper.json": PAPER_SEGMENTATION}

VALUES: dict[str, dict[str, dict[str, Any]]] = {
    "gvsl_pretrain": PRETRAIN,
    "gvsl_seg_heart": SEGMENTATION_OVERLAYS
    | {
        "train.json": SEGMENTATION
        | {
            "cohort#subjects": 20,
            "labels#default": {"myocardium": 205, "left_atrium": 420, "left_ventricle": 500, "right_atrium": 550}
            | {"right_ventricle": 600, "aorta": 820, "pulmonary_artery": 850},
            "background_values": [421],
            "accept_mismatch": [],
            "loss": {"_target_": "DiceCELoss", **TO_ONE_HOT},
        }
    },
    "gvsl_seg_coronary": SEGMENTATION_OVERLAYS
    | {
        "train.json": SEGMENTATION
        | {
            "cohort#subjects": 16,
            "labels#default": {"coronary_arteries": 1},
            "spacing": [1.5, 1.5, 1.5],
            "shipped_backbone": "$@bundle_root + '/models/backbone.pt'",
            "pretrained_weights": "@shipped_backbone",
            "accept_mismatch": ["spacing"],
            "loss": {"_target_": "DiceCELoss", **TO_ONE_HOT, "include_background": False},
            **crops(0, pos=3, neg=1, num_samples=1),
        },
        "cldice.json": {"loss": {"_target_": "SoftDiceclDiceLoss", **TO_ONE_HOT, "include_background": False}},
    },
    "gvsl_seg_brain": SEGMENTATION_OVERLAYS
    | {
        "train.json": SEGMENTATION
        | {
            "cohort#subjects": 20,
            "pretrained_parts": [],
            "spacing": [3.0, 3.0, 3.0],
            "patch_size": [48, 64, 48],
            "validate#inferer#roi_size": [48, 64, 48],
            "intensity": PERCENTILES,
            "accept_mismatch": [],
            "loss#weight#_target_": "custom.data.class_weights",
            "head_learning_rate": 0.03,
            "max_epochs": 12,
            **crops(5, coeff_range=[0.0, 0.05], prob=0.3),
            **crops(6, gamma=[0.7, 1.5], prob=0.3),
        }
    },
    "gvsl_covid_cls": OVERLAYS
    | {
        "train.json": {
            **DOWNSTREAM,
            "cohort#subjects": 80,
            "labels#default": {"no COVID-19": 0, "COVID-19": 1},
            "positive": "$list(@labels)[-1]",
            "threshold": 0.5,
            "validation_share": 0.2,
            "test_share": 0.3,
            "spacing": [3.5, 3.5, 3.5],
            "patch_size": [80, 64, 80],
            "lung_margin": 2,
            "pretrained_parts": [],
            "accept_mismatch": [],
            "loss": {"_target_": "torch.nn.CrossEntropyLoss"},
            "learning_rate": 0.001,
            "head_learning_rate": 0.001,
            "warmup_iterations": 10,
            "max_epochs": 10,
            "iterations_per_epoch": 10,
            "batch_size": 4,
            "val_interval": 2,
            "validate#key_metric#roc_auc#_target_": "ROCAUC",
            "validate#postprocessing#transforms#0#softmax": True,
            **crops(0, spatial_axis=0, prob=0.5),  # left and right
            **crops(1, rotate_range=[0.1] * 3, scale_range=[0.1] * 3, translate_range=[4, 4, 4], prob=0.8),
            **crops(2, offsets=0.03, prob=0.5),
            **crops(3, std=0.01, prob=0.3),
        },
        "paper.json": PAPER | {"patch_size": [320, 224, 320], "lung_margin": 10},
    },
}
