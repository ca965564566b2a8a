"""Number formats of GGUF weights."""

from __future__ import annotations

import logging
from typing import Literal, get_args

import gguf
import numpy as np
import numpy.typing as npt
import torch
from gguf import GGMLQuantizationType, LlamaFileType
from torch import Tensor

logger = logging.getLogger(__name__)

GgufType = Literal["f32", "f16", "bf16", "q8_0"]
GGUF_TYPES: tuple[GgufType, ...] = get_args(GgufType)

# Weights of one quantisation block along a row.
BLOCK = 32

_TYPES = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}


def file_type(dtype: GgufType) -> int:
    """llama.cpp's number for a file whose matrices have this type."""
    return int(_TYPES[dtype][1])


def tensor_type(name: str, weight: Tensor, dtype: GgufType) -> GGMLQuantizationType:
    """The type that one tensor is stored in.

    Norms, biases and rotary factors stay F32. A matrix whose rows are no whole quantisation blocks is stored as F16:
    padding would change its shape, and llama.cpp checks shapes.

    Args:
        name: The tensor's name in the file.
        weight: It.
        dtype: What was asked for.
    """
    if weight.dim() < 2:
        return GGMLQuantizationType.F32
    if dtype == "q8_0" and weight.shape[-1] % BLOCK:
        logger.info("%s has rows of %d weights, no multiple of %d: stored as F16", name, weight.shape[-1], BLOCK)
        return GGMLQuantizationType.F16
    return _TYPES[dtype][0]


def encode(weight: Tensor, kind: GGMLQuantizationType) -> npt.NDArray[np.generic]:
    """A tensor's values in a type; uint8 bytes for BF16 and the quantised types."""
    values = weight.detach().to(torch.float32).contiguous().numpy()
    encoded: npt.NDArray[np.generic] = gguf.quants.quantize(values, kind)
    return encoded
