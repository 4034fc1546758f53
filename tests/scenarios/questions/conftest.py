"""Questions that users asked, as files: what ../shared/questions has, made here so that they are asked everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

#: How often each of 256 experts was chosen: the fullest of 32 ranks holds 2.48 times the mean of them.
COUNTS = """
2165 2046 5046 31358 2409 2399 1984 13649 3035 4292 2847 2100 2801 1990 3092 3714 2981 4545 2743 3592 3173 4034 1751 2648
1814 3073 1782 9360 1894 1955 1764 1899 4158 2701 2504 5359 2279 4976 2107 3306 1858 2832 2066 2688 2482 5630 2033 2245
6889 2912 3054 2610 2121 3194 5941 20688 2419 2527 1805 2262 9756 2212 2661 2143 2863 4600 1943 2586 1910 4074 7439 3428
3683 1884 1791 2114 6578 1756 1838 1843 3848 11939 2150 1833 3353 2715 2929 1760 1848 2515 2228 2093 3017 3995 2493 1878
2895 6055 1743 3112 2196 3238 2002 2136 2296 2351 3779 2772 47530 2015 6175 10701 1873 1777 4439 3622 1769 5535 2562 5729
2635 2389 2073 8390 2086 1730 3216 9005 18096 2879 14788 2623 1722 4907 1889 2963 2080 1738 2341 2786 1809 2380 2440 2332
1863 1718 1747 1828 10200 5120 2471 2816 3508 2158 1706 2040 3403 12718 1966 2188 4389 5832 3535 2305 2538 6436 1905 1927
5445 5276 4778 4842 2173 2550 2053 1916 2574 1932 5196 1786 2598 1796 3563 24586 2236 2008 7876 2059 2027 2429 3746 8123
1710 1996 16221 4201 1949 1868 2323 1938 2287 2450 6729 3282 3956 3481 2360 1960 1726 4658 3329 11275 1819 2998 4115 3260
2220 2370 2204 7060 2757 2021 7243 3652 1921 7649 3132 3919 4491 3454 4340 1773 4717 3813 3152 2181 2674 2129 1853 2461
1824 1978 2270 1972 4246 3883 6302 2729 2314 1734 3378 1800 1714 8683 2946 2253
"""
FILES = {
    "odd": """
        model: qwen3-235b-a22b
        cluster: {name: h200-cx7, nodes: 2}
        workload: {input_tokens: 3000, output_tokens: 500, rate: 10 /s}
        slo: {ttft: 1 s, tpot: 40 ms}
        """,
    "q1": """
        model: deepseek-r1
        cluster: {name: h200-cx7, nodes: 1}
        workload: {input_tokens: 1600, output_tokens: 600, concurrency: 32}
        deployment: {backend: vllm, decode: {tp: 8, ep: 8}}
        """,
    "q10": """
        model: deepseek-v3
        cluster: {name: h200-cx7, nodes: 4}
        workload: {input_tokens: 4000, output_tokens: 1000, concurrency: 2048}
        deployment: {decode: {dp: 32, ep: 32, redundant_experts: 32}}
        """,
    "q10l": """
        model: deepseek-v3
        cluster: {name: h200-cx7, nodes: 4}
        traffic: {tokens_per_rank: 64, routing: {kind: uniform}}
        deployment: {ep: 32, protocol: low-latency}
        """,
    "q11": """
        model: deepseek-v3
        cluster: {name: h200-cx7, nodes: 1}
        workload: {input_tokens: 100000, output_tokens: 200, rate: 0.001 /s}
        deployment: {decode: {tp: 8, ep: 8}}
        """,
    "q2b": """
        model: deepseek-v3.2
        cluster: {name: h800-cx7, nodes: 6}
        workload: {input_tokens: 4096, output_tokens: 1536}
        slo: {ttft: 3 s, tpot: 60 ms}
        deployment:
          mode: disaggregated
          decode: {dp: 32, ep: 32, batch: 64}
          prefill: {dp: 16, ep: 16, count: 1, protocol: high-throughput}
        """,
    "q4": """
        model: glm-5
        cluster: {name: h200-cx7, nodes: 2}
        workload: {input_tokens: 8000, output_tokens: 1000, concurrency: 64}
        deployment: {backend: vllm, decode: {tp: 8, dp: 2, ep: 16}}
        """,
}


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name of a question -> its file, beside which the routing files lie."""
    folder = tmp_path_factory.mktemp("questions")
    counts = [int(word) for word in COUNTS.split()]
    hot = [100] * 255 + [100_000]
    layers = [counts, counts[::-1], hot]
    for name, column in (("c256.csv", counts), ("hot.csv", hot)):
        lines = [f"{expert},{count}" for expert, count in enumerate(column)]
        (folder / name).write_text("\n".join(["expert,count", *lines, ""]))
    lines = [f"{at},{expert},{count}" for at, column in enumerate(layers) for expert, count in enumerate(column)]
    (folder / "layers.csv").write_text("\n".join(["layer,expert,count", *lines, ""]))
    found = {}
    for name, text in FILES.items():
        found[name] = folder / f"{name}.yaml"
        body = "\n".join(line.removeprefix("        ") for line in text.strip("\n").splitlines())
        found[name].write_text(f"name: {name}\n{body}\n")
    return found
