"""What one GPU costs: rates by contract, its capital price, the server around it. A GPU that the price file does not know may
carry its own."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from .units import Usd, UsdPerGpuHour, Watts


class Server(BaseModel):
    """A server (GB200: a rack) of ``gpus`` GPUs with its NICs: what it draws at most, and its price (None: not public)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpus: Annotated[int, Field(ge=1, le=1024)]
    power: Watts
    price: Usd | None = None


class PriceTag(BaseModel):
    """The rows of the price file's tables for one GPU; None where there is no such price."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu_hour: UsdPerGpuHour | None = None
    gpu_hour_on_demand: UsdPerGpuHour | None = None
    gpu_hour_reserved: UsdPerGpuHour | None = None
    gpu: Usd | None = None
    server: Server | None = None
