# SPDX-License-Identifier: Apache-2.0
"""Training steps on fake CUDA tensors, which have no values: what a GPU would need, on a machine without one."""
