"""Number formats: bytes of an element, of a stored weight with its scales, and of a row on the wire with its scales."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Dtype = Literal["bf16", "fp8", "fp4"]

ELEMENT_BYTES: Mapping[Dtype, float] = {"bf16": 2.0, "fp8": 1.0, "fp4": 0.5}

# Scales beside the weights: FP8 one fp32 per 128 x 128 block (DeepSeek-V3, arXiv 2412.19437 section 3.3), FP4 one byte per 16
# values (NVFP4, "Introducing NVFP4", NVIDIA technical blog, 2025-06-24).
WEIGHT_BYTES: Mapping[Dtype, float] = {"bf16": 2.0, "fp8": 1.0 + 4 / (128 * 128), "fp4": 0.5 + 1 / 16}

#: Bytes per element of a dispatched row with its scales: fp32 per 128 (DeepEP), fp8 per 16 (NVFP4).
PAYLOAD_BYTES: Mapping[Dtype, float] = {"bf16": 2.0, "fp8": 1.0 + 4.0 / 128.0, "fp4": 0.5 + 1.0 / 16.0}
