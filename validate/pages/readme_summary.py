"""The README's summary of docs/validation.md: a row a kind of measurement, from the page's own tables."""

from __future__ import annotations

import re
from collections.abc import Iterator

BEGIN, END = "<!-- a summary of docs/validation.md -->\n", "<!-- end of the summary -->\n"
_GROUP = re.compile(r"^\| [\w-]+ \| [^|]+ \| [^|]+ \| \d+ \| ([\d,]+) \| ([\d.]+) \| ([\d.]+) \|", re.MULTILINE)
_KERNELS = (
    ("ep_comm.csv", "exchange kernels: DeepEP and TensorRT-LLM on H100, B200, GB200"),
    ("grouped_gemm.csv", "experts' grouped GEMMs"),
    ("gemm.csv", "dense GEMMs"),
    ("mla_attention.csv", "latent attention"),
    ("collectives.csv", "collectives"),
)


def summary(page: str) -> str:
    """The block between `BEGIN` and `END`. ``page``: the text of docs/validation.md."""
    return BEGIN + "\n".join(_lines(page)) + "\n" + END


def summed(readme: str, page: str) -> str:
    """``readme`` with its block made again. Raises ValueError if it has none."""
    before, after = readme.index(BEGIN), readme.index(END) + len(END)
    return readme[:before] + summary(page) + readme[after:]


def _lines(page: str) -> Iterator[str]:
    yield "| what is predicted | rows | error of a row |"
    yield "|---|--:|---|"
    for title, words in _KERNELS:
        groups = [(int(rows.replace(",", "")), float(mape)) for rows, mape, _ in _GROUP.findall(_section(page, title))]
        rows = sum(count for count, _ in groups)
        mean = sum(count * mape for count, mape in groups) / rows
        yield f"| {words} | {rows:,} | {mean:.1f} % on average, {max(m for _, m in groups):.1f} % in the worst group |"
    blind = _found(r"(\d+) figures that the libraries print.*?median absolute error\s+([\d.]+) %", page)
    yield f"| figures that exchange libraries print themselves, **blind** | {blind[0]} | {blind[1]} % in the median |"
    deployed, fitted, median, mean_ = _found(
        r"Deployments of a public suite, ([\d,]+) rows.*?come from (\d+) of them.*?within\s+([\d.]+) % \(mean ([\d.]+) %\)",
        page,
    )
    aside = int(deployed.replace(",", "")) - int(fitted)
    yield f"| whole deployments, time per output token, none fitted | {aside} | {median} % in the median, {mean_} % mean |"
    first, bias = _found(r"time to first token: median error ([\d.]+) %, bias ([+-]?[\d.]+) %", page)
    yield f"| the same, time to first token | {deployed} | {first} % in the median, {bias} % bias |"
    runs, error, inside = _found(r"(\d+) throughputs of whole pools.*?error (\d+) %.*?(\d+) of \d+ lie inside", page)
    yield f"| published production pools' throughput, **blind** | {runs} | {error} % in the median, {inside} in their 90 % |"


def _section(page: str, title: str) -> str:
    start = page.index(f"\n## {title}\n") + 1
    end = page.find("\n## ", start)
    return page[start:end]


def _found(pattern: str, page: str) -> tuple[str, ...]:
    found = re.search(pattern, page, re.DOTALL)
    if found is None:
        raise ValueError(f"docs/validation.md no longer says {pattern!r}")
    return found.groups()
