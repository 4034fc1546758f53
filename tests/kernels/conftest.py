"""Kernels run in Triton's interpreter, corrected; the choice must be made before any kernel module is imported."""

import os

import pytest

os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("torch")
pytest.importorskip("triton")

import torch

from epicycle.kernels import interpreter

interpreter.use()
torch.set_num_threads(1)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(20260101)
