"""Why each mechanism of an engine is believed in: what other people published or an engine's own source says, by its name."""

from __future__ import annotations

from collections.abc import Mapping

#: Mechanism, as `mechanisms` names it -> its evidence. None of it is a time that a constant was fitted to.
EVIDENCE: Mapping[str, str] = {
    "experts are uneven where nothing balances them": (
        "TensorRT-LLM, Scaling Expert Parallelism (part 1): the fullest of 32 ranks has 1.56 more than the mean"
    ),
    "drafts run one after another, each launched": "engine sources: one pass a draft, the next needs its token",
    "versions have a pace of their own": "rows state versions of nine months, whose releases claim gains",
    "4-bit experts are widened where no tensor core takes them": (
        "vLLM on Hopper: Marlin and Triton's mxfp4 kernels convert in registers, two instructions a weight"
    ),
    "block-scaled fp8 on Blackwell is not DeepGEMM's": (
        "the suite's recipes: SGLANG_ENABLE_JIT_DEEPGEMM=false; the fitted tenth has too few rows to tell how much"
    ),
    "kernels of a graph follow each other after a gap": "CUDA graphs (NVIDIA developer blog, 2019 and 2024): 1 to 3 us",
    "the host works between steps and for each sequence": (
        "vLLM v0.6 (2024-09-05); GLM-5.2 on eight H200: 641 to 810 us of a step idle between graphs (pegainfer)"
    ),
    "a server, and some steps, before a first token": "schedulers work ahead of the GPU and hand tokens out a step later",
    "decode workers look for requests between steps": (
        "the suite's SGLang recipes: scheduler-recv-interval 10; transfers are polled once a step (SGLang, decode.py)"
    ),
    "when requests are taken up, by the suite's scripts": "the scripts' own flags (`validate/serving/scripts.csv`)",
    "groups hold prompts back for each other": "TensorRT-LLM's attention_dp_config: timeout_iters 50, the default",
    "a closed loop begins with a burst": (
        "the suite's client: all requests at once, ten a client, lengths of 80 to 100 %"
    ),
    "kernels beside an exchange slow each other down": "arXiv 2507.03114: 18.9 % on average, 40 at most",
    "groups that step together wait for the fullest": (
        "TensorRT-LLM, ADP balance: 25,664 tokens/s round-robin, 34,140 balanced, 39,552 perfect"
    ),
    "prompts share a step": "engine sources: a step takes prompts up to its tokens",
    "an fp8 cache is multiplied in fp8": "FlashMLA-FP8 in SGLang (LMSYS and Ant Group, 2025-09-26)",
    "issue cycles are no share of a tensor peak": "H20: a quarter of H100's tensor rate in the same SM",
}  # fmt: skip
