"""How fast requests are played one by one, on one core: `make bench-serving`. Its last lines say each target met or missed."""

from __future__ import annotations

import resource
import time
from dataclasses import replace

from epicycle.scenarios.answer.evaluate import evaluate
from epicycle.scenarios.ask.scenario import load_serving
from epicycle.scenarios.serve.run import serve
from epicycle.sim.inputs.requests import Requests
from epicycle.sim.inputs.serving_question import ServingQuestion

SIXTEEN = ("workload.input_tokens=512", "workload.output_tokens=512", "workload.length_spread=0", "workload.rate=100 /s")
#: The deployment of SGLang's post on 96 H100 (lmsys.org, 2025-05-05): prefill on 4 nodes, decode on 9 of 12.
DAY = "serve-deepseek-v3-h100-ep72"
HOURS = 24.0


def played(question: ServingQuestion, **requests: object) -> float:
    """Seconds of one core to play it, step tables and all."""
    begin = time.process_time()
    serve(replace(question, requests=Requests.model_validate(requests), faults=None))
    return time.process_time() - begin


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def main() -> None:
    sixteen = load_serving("serve-llama-lost-gpu", SIXTEEN).resolve()
    played(sixteen, count=100)  # numba loads what it compiled, or compiles it
    few, many = played(sixteen, count=10_000), played(sixteen, count=100_000)
    print(f"16 instances, 512 tokens in and out, 100/s: 10,000 requests {few:.2f} s, 100,000 requests {many:.2f} s")
    day = load_serving(DAY, ("workload.output_tokens=1000", "workload.cached_input=0.5")).resolve()
    rate = 0.8 * evaluate(day).metric("requests_per_s").value
    workload = day.workload.model_copy(update={"rate": rate})
    day = replace(day, workload=workload)
    short = played(day, duration=f"{HOURS / 10:.3f} h")
    before = peak_mib()
    whole = played(day, duration=f"{HOURS:.3f} h")
    after, times = peak_mib(), HOURS * 3600.0 / whole
    print(
        f"96 H100 at 80 % load ({rate:.0f} requests/s) for {HOURS:g} h: {whole:.1f} s, {times:,.0f} times real time "
        f"({HOURS * 360.0 / short:,.0f} for a tenth of it); peak memory {after:.0f} MiB, {before:.0f} MiB after the tenth"
    )
    targets = (
        ("10,000 requests in 3 s", few <= 3.0),
        ("100,000 requests in 30 s", many <= 30.0),
        ("ten times the requests in ten times the time", many <= 11.0 * few + 0.5),
        (f"{HOURS:g} simulated hours 1,000 times faster than real time", times >= 1000.0),
        ("memory flat (within 10 %)", after <= 1.1 * before),
    )
    for words, met in targets:
        print(f"{'met   ' if met else 'MISSED'} {words}")


if __name__ == "__main__":
    main()
