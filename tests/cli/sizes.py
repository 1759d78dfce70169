# SPDX-License-Identifier: Apache-2.0
"""Options that make a command of gvsl take seconds."""

SMALL = "--patch_size [16,16,16] --device cpu"
SHORT = f"{SMALL} --max_epochs 1 --iterations_per_epoch 1 --val_interval 1 --num_workers 0 --figures False"
