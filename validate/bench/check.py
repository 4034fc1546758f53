"""Is the answer right, every time, and was it computed? Nothing is timed that has not passed here.

Outputs are poisoned (all bits set: NaN in every float type, -1 in integers) before every run. The same addresses get new
random values and must give the new answer; rows of zeros and inputs of zeros must still be written.
"""

from __future__ import annotations

import gc

import torch

from .cases.case import Case, Problem, Tensors

ZERO_SPEEDUP = 1.5  # data changes power and clocks by some 15 %; more than this, and zeros were not computed


class CheckError(AssertionError):
    """A kernel's answer is wrong, missing, or not computed from its inputs."""


def poison(outputs: Tensors) -> None:
    for tensor in outputs.values():
        tensor.contiguous().view(torch.uint8).fill_(0xFF)


def refill(problem: Problem, seed: int, keep: float = 1.0) -> None:
    """New random values at the same addresses; ``keep``: share of rows left random, the others become zero."""
    for i, name in enumerate(problem.random):
        tensor = problem.inputs[name]
        g = torch.Generator(tensor.device).manual_seed(seed + i)
        fresh = torch.randn(tensor.shape, generator=g, device=tensor.device)
        if tensor.ndim and keep < 1.0:
            rows = torch.rand(tensor.shape[0], generator=g, device=tensor.device) < keep
            fresh = fresh * rows.view(-1, *[1] * (tensor.ndim - 1))
        tensor.copy_(fresh.to(tensor.dtype))


def verify(case: Case, problem: Problem, what: str) -> float:
    """Largest relative error of the outputs as they stand; raises CheckError beyond the case's tolerance."""
    got = problem.finish() if problem.finish is not None else problem.outputs
    wanted, masks, worst = problem.expected(), problem.written(), 0.0
    for name, want in wanted.items():
        a, b = got[name].double(), want.double().to(got[name].device)
        if name in masks:
            a, b = a[masks[name]], b[masks[name]]
        unwritten = int((~torch.isfinite(a)).sum())
        if unwritten:
            raise CheckError(f"{case.name}: {unwritten} of {a.numel()} elements of {name} were not written ({what})")
        scale = float(b.norm())
        error = float((a - b).norm()) / scale if scale else float(a.abs().max()) if a.numel() else 0.0
        if not error <= case.tolerance:
            raise CheckError(f"{case.name}: relative error of {name} is {error:.3g}, allowed {case.tolerance:g} ({what})")
        worst = max(worst, error)
    return worst


def check(case: Case, seeds: tuple[int, ...] = (1, 2, 3)) -> float:
    """Run ``case`` on fresh problems, on new values at the same addresses, and on zeros. Returns the largest error."""
    worst = 0.0
    for seed in seeds:
        problem = case.make(seed)
        worst = max(worst, _run(case, problem, f"fresh inputs, seed {seed}"))
        if problem.random:
            refill(problem, 1000 + seed)
            worst = max(worst, _run(case, problem, "new values at the same addresses"))
            refill(problem, 2000 + seed, keep=0.5)
            worst = max(worst, _run(case, problem, "half of the rows zero"))
            refill(problem, 3000 + seed, keep=0.0)
            _run(case, problem, "all inputs zero")
        # A whole layer fills half of a device: let it go before the next one is built.
        del problem
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return worst


def check_zeros_cost_as_much(case: Case, random_us: float, zeros_us: float) -> None:
    """Raise CheckError if a run on zeros is so much faster that it cannot have done the work."""
    if random_us > ZERO_SPEEDUP * zeros_us:
        raise CheckError(
            f"{case.name}: {zeros_us:.1f} us on zeros but {random_us:.1f} us on random data: it skips work on zeros"
        )


def _run(case: Case, problem: Problem, what: str) -> float:
    if problem.prepare is not None:
        problem.prepare()
    poison(problem.outputs)
    problem.run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return verify(case, problem, what)
