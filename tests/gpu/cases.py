"""What is held against its reference on a device, and which kernels that says something about: one line a case.

Every case of `epicycle bench` stands here under its name, and beside them what the bench has no case for
(`child.py`). Every kernel that is launched from a host stands in some line.
"""

from __future__ import annotations

GEMM, SWIGLU, CAST = "grouped_gemm.gemm_kernel", "swiglu.swiglu_kernel", "quantise.quantise_kernel"
HT_SEND, HT_EXPAND, HT_REDUCE, HT_PULL = (
    "ht_dispatch.send_kernel", "ht_dispatch.expand_kernel", "ht_combine.reduce_kernel", "ht_combine.pull_kernel"
)  # fmt: skip
LL_SEND, LL_RECEIVE, LL_RETURN, LL_SUM = (
    "ll_dispatch.send_kernel", "ll_dispatch.receive_kernel", "ll_combine.send_kernel", "ll_combine.sum_kernel"
)  # fmt: skip
ROUTE = ("layout.experts_kernel", "layout.groups_kernel", "notify.post_kernel", "notify.wait_kernel")
HT = (*ROUTE, HT_SEND, HT_EXPAND, GEMM, SWIGLU, HT_REDUCE, HT_PULL)
LL = (LL_SEND, LL_RECEIVE, GEMM, SWIGLU, LL_RETURN, LL_SUM)
RAILS = tuple(f"rail.{name}_kernel" for name in ("put", "slots", "forward", "return", "home"))

HT_PHASES = {
    "layout": ROUTE[:2], "notify_post": ROUTE[2:], "notify_wait": ROUTE[3:], "dispatch": (*ROUTE, HT_SEND),
    "expand": (HT_EXPAND,), "reduce": (HT_REDUCE,), "combine": (HT_PULL,),
}  # fmt: skip
LL_PHASES = {
    "send": (LL_SEND, LL_RECEIVE), "receive": (LL_RECEIVE,), "give_back": (LL_RETURN,), "combine": (LL_RETURN, LL_SUM),
    "send_receive": (LL_SEND, LL_RECEIVE),
}  # fmt: skip
REPLICAS, TMA, INT4 = "replicas.replicas_kernel", "tma_gemm.tma_gemm_kernel", "int4.int4_gemm_kernel"

#: case -> the kernels that it launches and judges by their answer.
BENCH: dict[str, tuple[str, ...]] = {
    "quantise": (CAST,),
    "permute": ("permute.permute_kernel",),
    "unpermute": ("permute.unpermute_kernel",),
    "swiglu_bf16": (SWIGLU,),
    "swiglu_fp8": (SWIGLU,),
    **{f"gemm_{kind}_{element}{part}": (INT4 if element == "int4" else GEMM,)
       for kind in ("contiguous", "masked") for element in ("bf16", "fp8", "int4") for part in ("", "_down")},
    **{f"ht_{phase}_{element}": kernels for phase, kernels in HT_PHASES.items() for element in ("bf16", "fp8")},
    "ht_layer_bf16": HT,
    "ht_layer_fp8": (CAST, *HT),
    **{f"ll_{phase}_{element}": kernels for phase, kernels in LL_PHASES.items() for element in ("bf16", "fp8")},
    "ll_layer_bf16": LL,
    "ll_layer_fp8": LL,
}  # fmt: skip
#: Cases of child.py.
MORE: dict[str, tuple[str, ...]] = {
    "two_hop_layer_bf16": (*ROUTE, *RAILS, HT_EXPAND, GEMM, SWIGLU, HT_REDUCE),
    "two_hop_layer_fp8": (*ROUTE, *RAILS, HT_EXPAND, GEMM, SWIGLU, HT_REDUCE),
}
MORE |= {f"balanced_layer_{protocol}": (REPLICAS,) for protocol in ("high_throughput", "low_latency")}
#: The bench's products load by TMA where the GPU has it, and by pointers in the interpreter: here both do both.
MORE |= {f"product_tma_{element}": (TMA,) for element in ("bf16", "fp8")}
MORE |= {f"product_pointer_{element}": (GEMM,) for element in ("bf16", "fp8")}
CASES = BENCH | MORE
