"""What the GPU's clock and power were while a case ran, and whether it held the clock back: from NVML, or nvidia-smi."""

from __future__ import annotations

import subprocess
from typing import Any

#: NVML's reasons to lower the clock that make two timings incomparable.
REASONS = {0x4: "power cap", 0x8: "hardware slowdown", 0x20: "software thermal", 0x40: "hardware thermal", 0x80: "power brake"}
_QUERY = "clocks.sm,power.draw,clocks_throttle_reasons.active"


def read(device: int = 0) -> dict[str, Any]:
    """``sm_clock_mhz``, ``power_w`` and ``throttled`` (reasons, joined; "" if none) right now; {} where nothing can tell."""
    return _nvml(device) or _smi(device)


def _nvml(device: int) -> dict[str, Any]:
    try:
        import pynvml
    except ImportError:
        return {}
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(device)
        reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
        clock = pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)
        return reading(clock, pynvml.nvmlDeviceGetPowerUsage(handle) / 1000, reasons)
    except pynvml.NVMLError:
        return {}


def _smi(device: int) -> dict[str, Any]:
    command = ["nvidia-smi", f"--id={device}", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        clock, power, reasons = done.stdout.strip().split(", ")
        return reading(float(clock), float(power), int(reasons, 16))
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return {}


def reading(clock_mhz: float, power_w: float, reasons: int) -> dict[str, Any]:
    """The three columns of a row."""
    held = "+".join(name for bit, name in REASONS.items() if reasons & bit)
    return {"sm_clock_mhz": float(clock_mhz), "power_w": float(power_w), "throttled": held}
