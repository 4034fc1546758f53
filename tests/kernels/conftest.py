"""Kernels run in Triton's interpreter, corrected; the choice must be made before any kernel module is imported."""

import os
from importlib.util import find_spec

import pytest

if find_spec("torch") and find_spec("triton"):
    os.environ["TRITON_INTERPRET"] = "1"

    import torch

    from epicycle.kernels import interpreter

    interpreter.use()
    torch.set_num_threads(1)
else:
    collect_ignore_glob = ["test_*.py"]  # the conftest above says so at the end of the run


@pytest.fixture
def rng() -> "torch.Generator":
    return torch.Generator().manual_seed(20260101)
