"""The simulation report: what it says, that it is one safe file, and that it stays small at 256 ranks.

`python tests/scenarios/test_report.py out.html [ranks]` writes the report of the made-up answer used here.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest

from epicycle.hwmodels.interval import UNKNOWN, Interval
from epicycle.scenarios.report import render, write_report
from epicycle.scenarios.report.layer.headline import closed_form, effective_rate, moved_bytes, within
from epicycle.scenarios.report.layer.timeline import _lanes, drawn_ranks
from epicycle.scenarios.report.layer.traffic import by_group
from epicycle.scenarios.report.shell.page import label, safe, script_json
from epicycle.sim.layer.result import (
    Answer,
    InputRow,
    LayerResult,
    LinkUse,
    MemoryItem,
    OpTime,
    PathSegment,
    Span,
    TrafficMatrix,
)

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "</script><b onclick=alert(3)>",
    "<!--<script>",
    "a\x00\u202eb\ud800",
)
# op -> (start, length) us, stream, bound, of a made-up layer
HIGH_THROUGHPUT = {
    "notify": (0.0, 31.0, "communication", "latency"),
    "dispatch": (31.0, 118.0, "communication", "nic_tx"),
    "compute": (152.0, 84.0, "compute", "hbm"),
    "combine": (240.0, 196.0, "communication", "nic_rx"),
}
LOW_LATENCY = {
    "dispatch": (0.0, 92.0, "communication", "nic_msg"),
    "compute": (93.0, 97.0, "compute", "hbm"),
    "combine": (191.0, 171.0, "communication", "nvlink_rx"),
}


def made_up_layer(protocol: str, ranks: int, rng: np.random.Generator) -> LayerResult:
    """A layer of plausible shape: 8 ranks a node, 256 experts, ranks that differ by a few per cent."""
    plan = HIGH_THROUGHPUT if protocol == "high-throughput" else LOW_LATENCY
    node = np.arange(ranks) // min(8, ranks // 2)
    inside = node[:, None] == node[None, :]
    rows = rng.poisson(60, (ranks, ranks))
    ops, spans, path, traffic = [], [], [], []
    for op, (start, length, stream, bound) in plan.items():
        own = np.asarray((length * (1 - 0.15 * rng.random(ranks))) * 1e6, dtype=np.int64)
        begin = np.asarray((start + 2 * rng.random(ranks)) * 1e6, dtype=np.int64)
        ops.append(OpTime(op, int(begin.min()), int((begin + own).max()), own))
        for r in range(ranks):
            a, d = int(begin[r]), int(own[r])
            spans.append(Span(r, stream, f"{op}.send", op, a, a + int(0.6 * d), bound))
            spans.append(Span(r, stream, f"{op}.receive", op, a + int(0.6 * d), a + d, bound))
            if op != "compute":
                spans.append(Span(r, "nic", f"{op}.put", op, a + d // 5, a + int(0.7 * d), "nic_tx"))
                spans.append(Span(r, "nic", f"{op}.forward", op, a + d // 3, a + int(0.9 * d), "nvlink_tx"))
        slow = int((begin + own).argmax())
        at, end = int(start * 1e6), int((begin + own).max())
        path += [
            PathSegment(at, at + 4_000_000, slow, f"{op}.send", op, "latency"),
            PathSegment(at + 4_000_000, end, slow, f"{op}.receive", op, bound),
        ]
        if op not in ("compute", "notify"):
            size = 7472 if op == "dispatch" else 14384
            for medium, mask in (("rdma", ~inside), ("nvlink", inside)):
                part = np.where(mask, rows if op == "dispatch" else rows.T, 0)
                traffic.append(TrafficMatrix(f"{op}.{medium}", op, medium, part * size, part))
    makespan = max(s.end_ps for s in spans)
    rates = {"nvlink_tx": 450e9, "nvlink_rx": 450e9, "nic_tx": 50e9, "nic_rx": 50e9, "nic_msg": 12e6}
    links = []
    for kind, rate in rates.items():
        used = 0.2 + 0.3 * rng.random(ranks)
        links += [
            LinkUse(f"{kind}[{i}]", kind, i, u * rate * makespan / 1e12, rate, u, min(1.0, 2 * u)) for i, u in enumerate(used)
        ]
    experts = rng.multinomial(rows.sum(), rng.dirichlet(np.full(256, 3.0)))
    buffers = 2.1 if protocol == "high-throughput" else 1.78
    memory = (
        MemoryItem("expert weights", int(20.6 * 2**30), "8 experts x 3 x 7168 x 2048 x 1 B x 58 layers"),
        MemoryItem("attention and shared weights", int(16.5 * 2**30), "model card"),
        MemoryItem(f"{protocol} buffers", int(buffers * 2**30), "2*[max(M*d, E*M*c) + max(E*M*d, E*M*c)] + 2*align128(4E)"),
    )
    formulas = {op: length * 0.97 for op, (_, length, _, _) in plan.items()}
    counts = {"tokens per destination, after RDMA": rows[:8, :8], "write offsets": np.cumsum(rows[:8, :8], axis=0)}
    return LayerResult(
        protocol,
        makespan,
        tuple(ops),
        tuple(spans),
        tuple(path),
        tuple(links),
        tuple(traffic),
        experts,
        experts.reshape(ranks, -1).sum(axis=1),
        memory,
        80 * 10**9,
        formulas,
        counts if protocol == "high-throughput" else {},
    )


def made_up_answer(ranks: int = 16) -> Answer:
    rng = np.random.default_rng(7)
    first, second = (made_up_layer(p, ranks, rng) for p in ("high-throughput", "low-latency"))
    inputs = (
        InputRow(
            "model", "hidden", "7168", "config.json of deepseek-ai/DeepSeek-V3, https://huggingface.co/deepseek-ai/DeepSeek-V3"
        ),
        InputRow("model", "experts", "256, top-8", "config.json of deepseek-ai/DeepSeek-V3"),
        InputRow("gpu", "HBM bandwidth", "3.35 TB/s", "NVIDIA H100 datasheet, 2023-03"),
        InputRow("nic", "line rate", "50 GB/s", "NVIDIA ConnectX-7 datasheet"),
        InputRow("calibration", "copy throughput per SM", "29.4 GB/s +- 0.8", "fit, 24 rows of ep_comm.csv, residual 4.1 %"),
    )
    sentence = (
        f"One DeepSeek-V3 MoE layer at EP{ranks} takes {first.makespan_ps / 1e6:,.0f} us in high-throughput mode; "
        "45 % of it waits for the receivers' NICs in combine."
    )
    return Answer(
        "deepseek-v3-decode",
        "DeepSeek-V3 decode on H100, made up for tests",
        sentence,
        (first, second),
        ranks,
        8,
        inputs,
        0,
        "0.1.0",
    )


class Page(HTMLParser):
    """What a browser would make of a page: its tags, attributes, text and the contents of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.said: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts.append((self.tags[-1][1], data))
        else:
            self.said.append(data)

    @property
    def figures(self) -> dict[str, dict]:
        return {str(a["data-figure"]): json.loads(s) for a, s in self.scripts if "data-figure" in a}

    @property
    def text(self) -> str:
        return " ".join(self.said)


@pytest.fixture(scope="module")
def answer() -> Answer:
    return made_up_answer()


@pytest.fixture(scope="module")
def page(answer: Answer) -> Page:
    return Page(render(answer))


def test_the_answer_comes_first_and_every_section_follows(answer: Answer, page: Page) -> None:
    words = page.text
    assert words.index(answer.sentence) < words.index("critical path:")
    ids = [a["id"] for t, a in page.tags if t in ("section", "header") and "id" in a]
    assert ids == ["answer", "timeline", "critical", "comparison", "traffic", "exchange", "links", "load", "memory", "inputs"]
    assert len(page.figures) == 2 + 1 + 8 + 5 + 2
    assert (
        "the sender's NIC line rate" in words
        and "left for KV cache" in words
        and "epicycle simulate deepseek-v3-decode --seed 0" in words
    )


def test_every_figure_is_one_that_plotly_accepts_and_has_units(page: Page) -> None:
    for name, spec in page.figures.items():
        text = re.sub(r'"var\(--[a-z0-9-]+\)"', '"#123456"', json.dumps(spec))
        go.Figure(json.loads(text))
        for axis in ("xaxis", "yaxis"):
            title = spec["layout"][axis]["title"]["text"]
            assert title or "timeline" in name or name == "comparison-time", (name, axis)


def test_colours_named_by_figures_exist_in_the_style(answer: Answer) -> None:
    html = render(answer)
    style = html[html.index("<style>") : html.index("</style>")]
    for colour in set(re.findall(r"var\((--[a-z0-9-]+)\)", html)):
        assert f"{colour}:" in style, colour


def test_it_is_one_file_that_asks_the_network_for_nothing(page: Page) -> None:
    for tag, attributes in page.tags:
        assert not {"src", "srcset", "data", "poster", "action"} & set(attributes), tag
        if tag == "link":
            assert attributes["href"] == "data:,"
    policy = next(str(a["content"]) for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and policy.count("sha256-") == 2
    assert sum("data-figure" not in a for a, _ in page.scripts) == 2


def test_hostile_text_stays_text_everywhere(answer: Answer) -> None:
    clean = Page(render(answer))
    for evil in HOSTILE:
        layers = tuple(
            replace(
                x,
                protocol=x.protocol + evil,
                spans=tuple(replace(s, name=s.name + evil, stream=s.stream + evil, bound=evil) for s in x.spans),
                critical_path=tuple(replace(s, stage=evil, bound=evil, op=evil) for s in x.critical_path),
                links=tuple(replace(s, name=evil, kind=s.kind + evil) for s in x.links),
                traffic=tuple(replace(s, stage=evil, medium=evil) for s in x.traffic),
                memory=tuple(MemoryItem(m.name + evil, m.bytes, evil) for m in x.memory),
                exchange={evil: np.eye(4, dtype=np.int64)},
                notes=(evil,),
                intervals={"dispatch": Interval(0.9, 0.95, 1.05, 1.1, (evil,)), evil: UNKNOWN},
            )
            for x in answer.layers
        )
        rows = (InputRow(evil, evil, evil, f"https://x.example/{evil}"),)
        page = Page(
            render(replace(answer, name=evil, description=evil, sentence=evil, layers=layers, inputs=rows, version=evil))
        )
        allowed = {
            "html",
            "head",
            "meta",
            "title",
            "link",
            "style",
            "body",
            "nav",
            "b",
            "a",
            "main",
            "header",
            "h1",
            "h2",
            "h3",
            "h4",
            "p",
        }
        allowed |= {
            "dl",
            "div",
            "dt",
            "dd",
            "small",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "span",
            "section",
            "script",
            "details",
        }
        allowed |= {"summary", "button", "pre"}
        assert {t for t, _ in page.tags} <= allowed
        assert not any(k.startswith("on") for _, a in page.tags for k in a)
        assert sum("data-figure" not in a for a, _ in page.scripts) == sum("data-figure" not in a for a, _ in clean.scripts)
        for spec in page.figures.values():
            assert not re.search(r"<(?!/?b>|br>|extra>|/extra>)", json.dumps(spec)), "a tag inside a figure"


def test_escaping_of_each_kind() -> None:
    assert safe('<a href="x">&\x00') == "&lt;a href=&quot;x&quot;&gt;&amp;\N{REPLACEMENT CHARACTER}"
    assert label("<b>1 & 2</b>") == "&lt;b&gt;1 &amp; 2&lt;/b&gt;"
    text = script_json({"</script>": ["<!--", float("nan"), float("inf"), 1.5]})
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"</script>": ["<!--", None, None, 1.5]}


def test_it_says_how_sure_it_is_and_why(answer: Answer) -> None:
    wide = Interval(0.5, 0.8, 1.25, 2.0, ("constants of h100_sxm",))
    layer = replace(answer.layers[0], intervals={op.op: wide for op in answer.layers[0].ops})
    assert within(wide, 100.0) == "50.00 to 200.0 us"
    assert within(wide, 100.0, 50) == "80.00 to 125.0 us"
    html = render(replace(answer, layers=(layer, *answer.layers[1:])))
    assert within(layer.interval, layer.makespan_ps / 1e6) in html
    assert all(within(wide, layer.op_us(op.op)) in html for op in layer.ops)
    assert "Wider because of constants of h100_sxm (" in html


def test_same_answer_same_bytes(answer: Answer, tmp_path: Path) -> None:
    write_report(answer, tmp_path / "a.html")
    write_report(made_up_answer(), tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_256_ranks_stay_small_and_are_added_up_by_node() -> None:
    html = render(made_up_answer(256))
    assert len(html.encode()) < 12e6
    page = Page(html)
    assert len(page.figures["traffic-0-0"]["data"][0]["z"]) == 32
    assert "32 of 256 ranks" in page.text and "count exchange" not in [a.get("id") for _, a in page.tags]


def test_drawn_ranks_include_the_path_the_slowest_and_the_fastest() -> None:
    layer = made_up_answer(256).layers[0]
    shown, words = drawn_ranks(layer, 256)
    busy = np.sum([o.rank_ps for o in layer.ops], axis=0)
    assert len(shown) == len(set(shown)) == 32 and shown == sorted(shown) and "256" in words
    assert {s.rank for s in layer.critical_path} <= set(shown)
    assert {int(busy.argmax()), int(busy.argmin())} <= set(shown)


def test_overlapping_spans_get_lanes_of_their_own() -> None:
    spans = [Span(0, "nic", str(i), "dispatch", a, b, "nic_tx") for i, (a, b) in enumerate([(0, 10), (2, 5), (5, 8), (10, 12)])]
    assert _lanes(spans) == [0, 1, 1, 0]


def test_numbers_of_the_headline(answer: Answer) -> None:
    layer = answer.layers[0]
    dispatched = sum(int(t.bytes.sum()) for t in layer.traffic if t.op == "dispatch" and t.medium == "rdma")
    assert moved_bytes(layer, "rdma", "dispatch") == dispatched
    assert effective_rate(layer, "rdma", "dispatch", 16) == pytest.approx(
        dispatched / 16 / (layer.op_us("dispatch") * 1e-6) / 1e9
    )
    assert closed_form(replace(layer, closed_form_us={"combine": 100.0})) == (layer.op_us("combine"), 100.0)
    assert closed_form(replace(layer, closed_form_us={})) is None


def test_adding_up_by_group_loses_nothing() -> None:
    matrix = np.arange(100).reshape(10, 10)
    grouped = by_group(matrix, 4)
    assert grouped.shape == (3, 3) and grouped.sum() == matrix.sum() and grouped[2, 2] == matrix[8:, 8:].sum()


def test_memory_that_does_not_fit_and_bare_results_are_rendered(answer: Answer) -> None:
    empty = np.zeros(0, np.int64)
    bare = LayerResult("x", 0, (), (), (), (), (), empty, empty, (MemoryItem("weights", 90 * 10**9, ""),), 80 * 10**9)
    words = Page(render(replace(answer, layers=(bare,)))).text
    assert "does not fit: 9.31 GiB more" in words and "recorded no spans" in words and "Side by side" not in words
    with pytest.raises(ValueError, match="no layers"):
        render(replace(answer, layers=()))


if __name__ == "__main__":
    write_report(made_up_answer(int(sys.argv[2]) if len(sys.argv) > 2 else 16), Path(sys.argv[1]))
