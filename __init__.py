"""epicycle: a cycle-level simulator and cost model for Mixture-of-Experts expert-parallel inference.

``epicycle.plan("plan-deepseek-v3-h200").best`` and its like are docs/python.md. Nothing is loaded before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .hwmodels.errors import BadInput
    from .scenarios.api.questions import compare, emit, evaluate, exchanges, explain, plan, scenario, serve, simulate, sweep
    from .scenarios.api.told import Told
    from .scenarios.ask.layer_scenario import LayerScenario
    from .scenarios.ask.search import Search
    from .scenarios.ask.serving_scenario import ServingScenario
    from .sim.inputs.deployment import Deployment
    from .sim.inputs.serving import Bill, Serving, Slo, Worker, Workload
    from .sim.inputs.traffic import Routing, Traffic
    from .validate.handing.api import calibrate

_WHERE = {
    **dict.fromkeys(
        ("plan", "simulate", "serve", "sweep", "compare", "exchanges", "explain", "evaluate", "emit", "scenario"),
        ".scenarios.api.questions",
    ),
    "Told": ".scenarios.api.told",
    "calibrate": ".validate.handing.api",
    "validate": ".validate",
    "LayerScenario": ".scenarios.ask.layer_scenario",
    "ServingScenario": ".scenarios.ask.serving_scenario",
    "Search": ".scenarios.ask.search",
    "Deployment": ".sim.inputs.deployment",
    **dict.fromkeys(("Bill", "Serving", "Slo", "Worker", "Workload"), ".sim.inputs.serving"),
    **dict.fromkeys(("Routing", "Traffic"), ".sim.inputs.traffic"),
    "BadInput": ".hwmodels.errors",
}

__all__ = [
    "BadInput",
    "Bill",
    "Deployment",
    "LayerScenario",
    "Routing",
    "Search",
    "Serving",
    "ServingScenario",
    "Slo",
    "Told",
    "Traffic",
    "Worker",
    "Workload",
    "__version__",
    "calibrate",
    "compare",
    "emit",
    "evaluate",
    "exchanges",
    "explain",
    "plan",
    "scenario",
    "serve",
    "simulate",
    "sweep",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'epicycle' has no attribute {name!r}")
    module = import_module(_WHERE[name], __name__)
    return module if name == "validate" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
