"""Machine code without a device. A fresh process compiles: in this one, kernels are defined for the interpreter."""

import os
import subprocess
import sys
from importlib.resources import files

import pytest
import yaml

# One of each kind; `python -m epicycle.kernels.compiled` does all and writes the records the GPU model reads.
KERNELS = ["ht_dispatch_fp8", "ht_reduce", "ll_send_bf16", "rail_forward", "gemm_contiguous_bf16_tma", "gemm_masked_fp8"]


def _compile(*arguments: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "epicycle.kernels.compiled", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("target", ["sm_90", "sm_100", "gfx950"])
def test_no_spills_wide_remote_stores_tensor_cores(target: str) -> None:
    said = _compile("--targets", target, "--kernels", *KERNELS)
    assert "no faults" in said
    assert all(f"{target} {name}:" in said for name in KERNELS)


def test_the_nvshmem_path_compiles() -> None:
    from epicycle.kernels.exchange.nvshmem import device_library

    if device_library() is None:
        pytest.skip("nvidia-nvshmem-cu13 is not installed: pip install --no-deps nvidia-nvshmem-cu13==3.4.5")
    said = _compile("--targets", "sm_90", "--kernels", "rail_put_nvshmem", "notify_post_nvshmem")
    assert "left out" not in said


@pytest.mark.parametrize("target", ["sm_90", "sm_100", "gfx950"])
def test_the_committed_records_hold_every_kernel(target: str) -> None:
    record = yaml.safe_load((files("epicycle.hwmodels") / "data" / "kernels" / f"{target}.yaml").read_text())
    kernels = record["kernels"]
    assert {"ht_dispatch_fp8", "ll_send_fp8", "gemm_contiguous_bf16", "gemm_masked_fp8", "swiglu_fp8"} <= set(kernels)
    for name, entry in kernels.items():
        assert 0 < entry["registers"] <= 256, name
        assert entry["spills"] == "0 B" or name.endswith("_nvshmem"), name
        assert int(entry["shared_memory"].removesuffix(" B")) <= 228 * 1024, name
        assert (entry["tensor_core"] > 0) == name.startswith("gemm"), name
