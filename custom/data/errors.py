# SPDX-License-Identifier: Apache-2.0
"""The cause of an error inside the errors that MONAI's Compose raises from it."""

from __future__ import annotations

from typing import Any

from ..volumes import VolumeError, file_name, image_name, is_image


def volume_error(error: BaseException) -> VolumeError | None:
    """The first VolumeError in the chain of causes, or None."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, VolumeError):
        cause = cause.__cause__
    return cause


def innermost(error: BaseException) -> BaseException:
    """The last error in the chain of causes."""
    return innermost(error.__cause__) if error.__cause__ is not None else error


def named_error(error: BaseException, name: str) -> RuntimeError | VolumeError:
    """The error to raise for a sample: a VolumeError if a volume is the cause, otherwise a RuntimeError.

    Args:
        error: what a transform raised.
        name: the sample and its files, for the message.
    """
    cause, inner = volume_error(error), innermost(error)
    if cause is not None:
        return VolumeError(f"{name}: {cause}")
    return RuntimeError(f"{name}: {type(inner).__name__}: {inner}")


def case_error(error: Exception, item: dict[str, Any]) -> VolumeError:
    """The error to raise for an item: a transform's own VolumeError, or one that names the volume, with its cause.

    Args:
        error: what the preprocessing raised.
        item: a case with "image", or a pair with "moving" and "fixed".
    """
    failure = volume_error(error)
    if failure is None:
        inner = innermost(error)
        failure = VolumeError(f"{case_name(item)}: preprocessing failed ({type(inner).__name__}: {inner})")
        failure.__cause__ = error
    return failure


def case_name(item: dict[str, Any]) -> str:
    """Path of the volume of an item, or of both volumes of a pair, before or after they were loaded."""
    images = [item[key] for key in ("image", "moving", "fixed") if key in item]
    return " and ".join(image_name(image) if is_image(image) else file_name(image, image) for image in images)
