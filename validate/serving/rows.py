"""Rows of a table of measured deployments, and what has to be assumed to predict them.

The public columns leave out scheduler limits, multi-token prediction, attention data-parallelism in part of the rows, and
the number of workers in many. Each assumption below has a name; the report counts the rows under each and their error.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ...hwmodels.errors import BadInput
from ...hwmodels.known.names import UnknownHardware, system_called
from ...hwmodels.plain_file import read_csv
from ...sim.inputs.model import load_model, model_names
from ...sim.precision import Dtype
from .recipes import UNSTATED, Pool, Recipe, recipes_for
from .scripts import PLAIN, Script, script_of

#: Names in tables whose architecture is a preset's of another name; any other is matched by the longest preset name in it.
ALIASES = {
    "llama-3.3-70b": "llama-3.1-70b",
    "llama-3-70b": "llama-3.1-70b",
    "llama-3-8b": "llama-3.1-8b",
    "minimax-m2": "minimax-m2.5",
    "deepseek-v4": "deepseek-v4-pro",
    "nvidia-nemotron-3-super": "nemotron-3-super",
}
#: A family's smaller sibling has another architecture than the preset.
_SMALLER = ("flash", "lite", "mini-", "-air", "distill", "nano")
#: Requests of these lengths are the public suite's, which draws each length uniformly from 80 % to 100 % of the stated one.
SUITE_LENGTHS = {(1024, 1024), (1024, 8192), (8192, 1024)}
SUITE_SPREAD = 0.2
#: Models that ship a multi-token-prediction layer which the suite runs with and without.
_DRAFTING = ("deepseek-r1", "deepseek-v3")
SEVERAL = ", the first of several"
_SPLIT = "one count of GPUs for the whole deployment: split into pools"
REQUIRED = ("model", "system", "backend", "mode", "isl", "osl", "concurrency", "ttft_ms", "tpot_ms")


@dataclass(frozen=True, slots=True)
class Widths:
    """One kind of worker as a row states or implies it: attention ``tp`` x ``dp``, experts over ``ep``, ``count`` workers."""

    tp: int
    dp: int
    pp: int
    ep: int
    count: int


@dataclass(frozen=True, slots=True)
class ServingRow:
    """One measured deployment. ``prefill`` is None for an aggregated one. ``drafts``: tokens that multi-token prediction drafts
    in a step; ``slots``: sequences that decode together in an attention group at most, 0 unknown; ``script``: how the suite
    starts the engine. ``assumed``: names of what the row does not say. ``version``: of the engine or of its release.
    ``otherwise``: drafts that the run may have had as well, where the suite lists its settings with and without.
    """

    line: int
    model: str
    system: str
    backend: str
    weights: Dtype
    experts: Dtype
    kv: Dtype
    isl: int
    osl: int
    spread: float
    concurrency: int
    decode: Widths
    prefill: Widths | None
    ttft_s: float
    tpot_s: float
    assumed: tuple[str, ...]
    drafts: int = 0
    slots: int = 0
    script: Script = PLAIN
    version: str = ""
    otherwise: int = 0

    @property
    def certain(self) -> bool:
        """Whether nothing but one arrangement is listed for its settings."""
        return not self.otherwise and not any(SEVERAL in name for name in self.assumed)

    @property
    def family(self) -> str:
        """Whose kernels a model shares: the first part of its name, and whether it has experts."""
        return family_of(self.model)


class Unpredictable(Exception):  # noqa: N818 - a reason to count, not a failure
    """A row that nothing here can predict, and why."""


def read_serving(path: Path, skipped: Counter[str] | None = None, listed: bool = True) -> list[ServingRow]:
    """The rows of ``path``. Raises BadInput naming line and column of what cannot be read.

    ``listed``: what rows leave out may come from the suite's own list of arrangements (`recipes`).

    A row of a model, system or precision that nothing here knows is counted in ``skipped`` by its reason, or an error without.
    """
    reader = read_csv(path)
    missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
    if missing:
        raise BadInput(f"{path}: columns missing: {', '.join(missing)}")
    rows = []
    for record in reader:
        where = f"{path}: line {reader.line_num}"
        try:
            rows.append(_row(where, reader.line_num, record, listed))
        except Unpredictable as reason:
            if skipped is None:
                raise BadInput(f"{where}: {reason}") from None
            skipped[str(reason)] += 1
    return rows


@cache
def preset_of(name: str) -> str:
    """The preset of a model as tables call it. Raises Unpredictable."""
    plain = name.rsplit("/", 1)[-1].lower()
    known = {preset: preset for preset in model_names()} | ALIASES
    if not any(size in plain for size in _SMALLER):
        for part in sorted(known, key=len, reverse=True):
            if part in plain:
                return known[part]
    raise Unpredictable(f"model {name}: no preset of its architecture")


@cache
def family_of(model: str) -> str:
    """The family of a preset: ``deepseek``, ``qwen3 dense``, ``qwen3``..."""
    return model.split("-")[0] + ("" if load_model(model).experts else " dense")


def system_of(name: str) -> str:
    """The system as the calibrations call it. Raises Unpredictable."""
    try:
        return system_called(name)
    except UnknownHardware as error:
        raise Unpredictable(f"system {name}: {error}") from None


@cache
def dtype_of(name: str) -> Dtype:
    """Precision of stored weights by the name of a quantisation. Raises Unpredictable."""
    plain = name.strip().lower()
    if plain in ("", "bf16", "bfloat16", "fp16", "float16"):
        return "bf16"
    if "fp4" in plain or "int4" in plain or plain.startswith("w4"):
        return "fp4"
    if "fp8" in plain or "int8" in plain or "e4m3" in plain:
        return "fp8"
    raise Unpredictable(f"precision {name}: neither 16, 8 nor 4 bits by its name")


def _row(where: str, line: int, r: dict[str, str], listed: bool) -> ServingRow:
    model, system = preset_of(r["model"]), system_of(r["system"])
    stated = r.get("precision", "")
    isl, osl, concurrency = (round(_number(where, r, c)) for c in ("isl", "osl", "concurrency"))
    ttft_s, tpot_s = (_number(where, r, c) / 1e3 for c in ("ttft_ms", "tpot_ms"))
    weights, experts = (dtype_of(r.get(column, "") or stated) for column in ("gemm_quant_mode", "moe_quant_mode"))
    spread = SUITE_SPREAD if (isl, osl) in SUITE_LENGTHS else 0.0
    assumed = ["lengths drawn from 80 to 100 %"] if spread else []
    # The suite's scripts: an fp8 cache wherever weights are quantised, but for SGLang on Hopper, whose MLA kernel has none.
    hopper = system.startswith(("h100", "h200", "h800"))
    kv: Dtype = "bf16" if weights == "bf16" or (r["backend"] == "sglang" and hopper) else "fp8"
    if model == "gpt-oss-120b":
        weights, kv = "bf16", "fp8" if system != "h100_sxm" else "bf16"
        experts = "fp4"
        assumed.append("gpt-oss: attention in bf16, experts in fp4")
    recipes = _recipes(r, isl, osl, concurrency) if listed else []
    chosen: Recipe | None = None
    if r["mode"] == "agg":
        decode, prefill = _aggregated(r, concurrency), None
        if decode.tp * decode.dp > 16:
            listed_so = [x for x in recipes if x.prefill and x.gpus == decode.tp * decode.dp]
            if listed_so:
                decode, prefill, chosen = _by_list(listed_so, assumed)
            else:
                assumed.append(_SPLIT)
                decode, prefill = _split(decode.tp * decode.dp, concurrency, isl >= 4 * osl)
        elif _drafts(r):
            alike = _like(recipes, decode)
            if r["backend"] == "sglang" and any(x.drafts for x in alike):
                # The suite starts its aggregated SGLang runs with drafts from scripts of their own (``*_mtp.sh``).
                alike = [x for x in alike if not x.drafts]
                assumed.append("aggregated SGLang runs with drafts are runs of their own: none")
            chosen = _speculation(alike, assumed) if alike or r["backend"] != "sglang" else None
    else:
        decode, prefill, chosen = _disaggregated(r, concurrency, recipes, assumed)
    if decode.tp * decode.dp > 1 and _int(r, "attention_dp_size", "") == 0 and r["mode"] == "agg":
        assumed.append("attention data-parallelism not stated: none")
    script = None
    if prefill is None and spread:
        tp, dp = decode.tp, decode.dp
        script = script_of(r["backend"], system, model, stated, isl, osl, tp * dp, int(dp > 1), concurrency)
        if script is not None:
            assumed.append("scheduling by the suite's scripts")
    return ServingRow(
        line, model, system, r["backend"], weights, experts, kv, isl, osl, spread, concurrency,
        decode, prefill, ttft_s, tpot_s, tuple(assumed),
        chosen.drafts if chosen else 0, chosen.slots if chosen else 0, script or PLAIN,
        r.get("backend_version", "") or UNSTATED, chosen.otherwise if chosen else 0,
    )  # fmt: skip


def _drafts(r: dict[str, str]) -> bool:
    return preset_of(r["model"]).startswith(_DRAFTING)


def _recipes(r: dict[str, str], isl: int, osl: int, concurrency: int) -> list[Recipe]:
    if not _drafts(r):
        return []
    version, stated = r.get("backend_version", ""), r.get("precision", "")
    return recipes_for(r["backend"], version, system_of(r["system"]), stated, isl, osl, concurrency)


def _like(recipes: list[Recipe], decode: Widths) -> list[Recipe]:
    """Aggregated recipes of a row's widths, those that treat the experts alike first."""
    mine = [
        r
        for r in recipes
        if r.prefill is None and r.decode.gpus == decode.tp * decode.dp and r.decode.data_parallel == (decode.dp > 1)
    ]
    return [r for r in mine if r.decode.whole_experts == (decode.ep > 1)] or mine


def _speculation(recipes: list[Recipe], assumed: list[str]) -> Recipe | None:
    """The recipe to go by: one without multi-token prediction wherever both are listed."""
    if not recipes:
        assumed.append("multi-token prediction not stated: none")
        return None
    kinds = {r.drafts > 0 for r in recipes}
    if len(kinds) == 2:
        assumed.append("listed with and without multi-token prediction: without")
    elif True in kinds:
        assumed.append("multi-token prediction by the suite's list")
    chosen = min(recipes, key=lambda r: r.drafts > 0)
    return replace(chosen, otherwise=max(r.drafts for r in recipes)) if len(kinds) == 2 else chosen


def _aggregated(r: dict[str, str], concurrency: int) -> Widths:
    """One worker, or as many as the stated batch of a worker leaves of the concurrency.

    Where ``attention_dp_size`` is stated, widths are an engine's flags: ``tp`` and ``ep`` lie on the same GPUs and ``tp_size``
    is their product, so that 64 = 8 x 8 is a worker of 8 GPUs. Where it is not, they multiply; a batch of the concurrency over
    the worker's GPUs is then attention data-parallelism, any other whole part of it a number of workers.
    """
    tp, pp, dp = (max(1, _int(r, c, "")) for c in ("tp_size", "pp_size", "attention_dp_size"))
    moe_tp, ep = (max(1, _int(r, c, "")) for c in ("moe_tp_size", "moe_ep_size"))
    gpus = max(tp * dp, moe_tp * ep)
    if r.get("attention_dp_size", "") not in ("", "0.0", "0"):
        if moe_tp > 1 and ep > 1 and moe_tp == ep:
            gpus = moe_tp
        return Widths(1, gpus, pp, min(ep, gpus), 1) if dp > 1 else Widths(gpus, 1, pp, min(ep, gpus), 1)
    batch = _int(r, "batch_size", "")
    parts = concurrency // batch if batch and concurrency % batch == 0 else 1
    if parts > 1 and parts == gpus:
        return Widths(1, gpus, pp, min(ep, gpus), 1)
    return Widths(gpus, 1, pp, min(ep, gpus), parts)


def _disaggregated(
    r: dict[str, str], concurrency: int, recipes: list[Recipe], assumed: list[str]
) -> tuple[Widths, Widths, Recipe | None]:
    decode, prefill = _pool(r, "decode_"), _pool(r, "prefill_")
    gpus_d, gpus_p = decode.tp * decode.dp, prefill.tp * prefill.dp
    stated = _int(r, "decode_num_workers", "") > 0
    fits = [x for x in recipes if x.prefill and gpus_d in (1, x.decode.gpus) and gpus_p in (1, x.prefill.gpus)]
    fits = fits or [x for x in recipes if x.prefill and gpus_d == gpus_p == x.gpus]
    if stated:
        decode, prefill = (_inside_a_node(w, r["backend"]) for w in (decode, prefill))
        same = [x for x in fits if x.decode.count == decode.count and x.decode.data_parallel == (decode.dp > 1)]
        return decode, prefill, _speculation(same, assumed) if _drafts(r) else None
    if r["backend"] == "sglang":  # its rows say how the experts are split, where TensorRT-LLM's repeat the prefill pool's
        fits = [x for x in fits if x.decode.whole_experts == (decode.ep > 1)] or fits
    if fits:
        return _by_list(fits, assumed)
    if _drafts(r):
        assumed.append("multi-token prediction not stated: none")
    return *_unlisted(r, concurrency, decode, prefill, assumed), None


def _by_list(fits: list[Recipe], assumed: list[str]) -> tuple[Widths, Widths, Recipe]:
    """Both pools as one of the recipes that fit has them."""
    chosen = _speculation(fits, assumed)
    assert chosen is not None and chosen.prefill is not None
    alike = {(x.prefill, x.decode) for x in fits if (x.drafts > 0) == (chosen.drafts > 0)}
    assumed.append("workers by the suite's list" + (SEVERAL if len(alike) > 1 else ""))
    return _widths(chosen.decode), _widths(chosen.prefill), chosen


def _inside_a_node(widths: Widths, backend: str) -> Widths:
    """SGLang's workers inside a node without expert parallelism are tensor-parallel, whatever stands under attention DP: the
    suite's lists say so of every one of them."""
    if backend == "sglang" and widths.ep == 1 and 1 < widths.dp <= 8:
        return replace(widths, tp=widths.tp * widths.dp, dp=1)
    return replace(widths, ep=widths.dp) if widths.dp > 8 and widths.ep == 1 else widths


def _unlisted(
    r: dict[str, str], concurrency: int, decode: Widths, prefill: Widths, assumed: list[str]
) -> tuple[Widths, Widths]:
    """Pools of a row that neither states its workers nor stands in the suite's list."""
    gpus_d, gpus_p = decode.tp * decode.dp, prefill.tp * prefill.dp
    heavy = _number("", r, "isl") >= 4.0 * _number("", r, "osl")
    if gpus_d == gpus_p and gpus_d > 16:
        assumed.append(_SPLIT)
        return _split(gpus_d, concurrency, heavy)
    if gpus_d == gpus_p == 1 and _drafts(r):
        assumed.append("no widths stated: workers of 4 GPUs, or one of 32 from a concurrency of 128 on")
        pool = Widths(4, 1, 1, 1, 1)
        return (replace(pool, count=4), pool) if concurrency < MANY_CLIENTS else _split(72, concurrency, heavy)
    workers = _odd_part(concurrency)
    assumed.append("number of workers not stated: from the concurrency's odd part")
    if gpus_d >= 16:  # wide expert parallelism: one worker with data-parallel attention
        decode = Widths(1, gpus_d, 1, gpus_d, 1)
    elif concurrency / workers > 32 * gpus_d / 4:
        decode = Widths(1, gpus_d, 1, gpus_d, workers)
    else:
        decode = Widths(gpus_d, 1, 1, decode.ep, workers)
    return decode, Widths(1, gpus_p, 1, gpus_p, 1)


def _widths(pool: Pool) -> Widths:
    ep = pool.gpus if pool.whole_experts else 1
    if pool.data_parallel:
        return Widths(1, pool.gpus, 1, ep, pool.count)
    return Widths(pool.gpus, 1, 1, ep, pool.count)


def _pool(r: dict[str, str], role: str) -> Widths:
    tp, pp, dp = (max(1, _int(r, c, role)) for c in ("tp_size", "pp_size", "attention_dp_size"))
    moe_tp, ep = (max(1, _int(r, c, role)) for c in ("moe_tp_size", "moe_ep_size"))
    return Widths(tp, dp, pp, ep if ep > 1 or moe_tp > 1 else 1, max(1, _int(r, "num_workers", role)))


def _split(gpus: int, concurrency: int, heavy: bool) -> tuple[Widths, Widths]:
    """Pools of a deployment that states only its GPUs, as the suite's lists and the rows that state theirs have them.

    Prefill workers of 4 GPUs. Few clients: one of them, and tensor-parallel decoders of 8 (of 4 where 8 do not fill the rest).
    Many: one decoder with data-parallel attention over 32, 16 or 8 GPUs, at most half of all where prompts are ``heavy``.
    """
    if concurrency < MANY_CLIENTS and gpus < 40:
        tp = 8 if (gpus - 4) % 8 == 0 else 4
        return Widths(tp, 1, 1, tp, max(1, (gpus - 4) // tp)), Widths(1, 4, 1, 4, 1)
    most = gpus / 2 if heavy else gpus - 4
    wide = next((w for w in (32, 16) if w <= most), 8)
    return Widths(1, wide, 1, wide, 1), Widths(1, 4, 1, 4, max(1, (gpus - wide) // 4))


#: Clients from which the suite's lists decode with data-parallel attention, and workers of one kind in them at most.
MANY_CLIENTS, MOST_WORKERS = 128, 15


def _odd_part(concurrency: int) -> int:
    while concurrency % 2 == 0:
        concurrency //= 2
    return concurrency if concurrency <= MOST_WORKERS else 1


def _int(r: dict[str, str], column: str, role: str) -> int:
    text = r.get(role + column, "")
    return round(float(text)) if text else 0


def _number(where: str, r: dict[str, str], column: str) -> float:
    try:
        value = float(r[column])
    except ValueError:
        raise BadInput(f"{where}: {column}: wanted a number, got {r[column]!r}") from None
    if not 0.0 < value < 1e9:
        raise BadInput(f"{where}: {column}: wanted a number above zero, got {r[column]!r}")
    return value
