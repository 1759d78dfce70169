# SPDX-License-Identifier: Apache-2.0
"""What is to be measured on the day when a machine with a GPU is there, in one command of less than eight minutes."""
