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

#: case -> the kernels that it launches and judges by their answer.
BENCH: dict[str, tuple[str, ...]] = {
    "quantise": (CAST,),
    "permute": ("permute.permute_kernel",),
    "unpermute": ("permute.unpermute_kernel",),
    "swiglu_bf16": (SWIGLU,),
    "swiglu_fp8": (SWIGLU,),
    "gemm_contiguous_bf16": (GEMM,),
    "gemm_contiguous_fp8": (GEMM,),
    "gemm_masked_bf16": (GEMM,),
    "gemm_masked_fp8": (GEMM,),
    "ht_dispatch_bf16": (*ROUTE, HT_SEND),
    "ht_dispatch_fp8": (*ROUTE, HT_SEND),
    "ht_expand_bf16": (HT_EXPAND,),
    "ht_expand_fp8": (HT_EXPAND,),
    "ht_reduce_bf16": (HT_REDUCE,),
    "ht_reduce_fp8": (HT_REDUCE,),
    "ht_combine_bf16": (HT_PULL,),
    "ht_combine_fp8": (HT_PULL,),
    "ht_layer_bf16": HT,
    "ht_layer_fp8": (CAST, *HT),
    "ll_receive_bf16": (LL_RECEIVE,),
    "ll_receive_fp8": (LL_RECEIVE,),
    "ll_combine_bf16": (LL_RETURN, LL_SUM),
    "ll_combine_fp8": (LL_RETURN, LL_SUM),
    "ll_send_receive_bf16": (LL_SEND, LL_RECEIVE),
    "ll_send_receive_fp8": (LL_SEND, LL_RECEIVE),
    "ll_layer_bf16": LL,
    "ll_layer_fp8": LL,
}
#: Cases of child.py.
MORE: dict[str, tuple[str, ...]] = {
    "two_hop_layer_bf16": (*ROUTE, *RAILS, HT_EXPAND, GEMM, SWIGLU, HT_REDUCE),
    "two_hop_layer_fp8": (*ROUTE, *RAILS, HT_EXPAND, GEMM, SWIGLU, HT_REDUCE),
}
CASES = BENCH | MORE
