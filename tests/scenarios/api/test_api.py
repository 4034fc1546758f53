"""epicycle as a library: the same digits as the commands, from a name, a file, keys or records, behind one envelope."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import epicycle
from epicycle.scenarios.say.schemas import KINDS, schema

ROOT = Path(__file__).parents[3]
KEYS: dict[str, Any] = {
    "name": "mine",
    "model": "deepseek-v3",
    "cluster": {"name": "h200-cx7", "nodes": 2},
    "workload": {"input_tokens": 1000, "output_tokens": 100, "concurrency": 512},
    "slo": {"tpot": "60 ms"},
    "deployment": {"decode": {"dp": 16, "ep": 16}},
}


def test_importing_it_loads_nothing() -> None:
    loaded = "import sys, epicycle; print([m for m in ('numpy', 'pydantic', 'plotly', 'pandas', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_it_promises_is_there() -> None:
    for name in epicycle.__all__:
        assert getattr(epicycle, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'plna'"):
        _ = epicycle.plna


def test_a_file_keys_and_records_are_one_question(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps(KEYS))  # JSON is YAML
    record = epicycle.ServingScenario(
        name="mine",
        model="deepseek-v3",
        cluster={"name": "h200-cx7", "nodes": 2},
        workload=epicycle.Workload(input_tokens=1000, output_tokens=100, concurrency=512),
        slo=epicycle.Slo(tpot="60 ms"),
        deployment=epicycle.Serving(decode=epicycle.Worker(dp=16, ep=16)),
    )
    texts = {epicycle.evaluate(source).to_json() for source in (str(path), path, KEYS, record)}
    assert len({json.dumps({k: v for k, v in json.loads(t).items() if k != "inputs"}) for t in texts}) == 1
    a, b = (epicycle.evaluate(source, sets={"deployment.decode.batch": 16}).metric("tpot").value for source in (KEYS, record))
    assert a == b


def test_a_bad_question_is_one_line() -> None:
    with pytest.raises(epicycle.BadInput, match=r"no such key deployment\.decode\.tpp: did you mean 'tp'"):
        epicycle.evaluate(KEYS, sets=["deployment.decode.tpp=2"])
    with pytest.raises(epicycle.BadInput, match="wanted what a YAML file can hold"):
        epicycle.evaluate({**KEYS, "seed": float("nan")})


def test_the_forms_of_an_answer(tmp_path: Path) -> None:
    swept = epicycle.sweep(KEYS, {"deployment.decode.batch": [8, 16]})
    rows = list(csv.DictReader(io.StringIO(swept.to_csv())))
    assert [row["batch"] for row in rows] == ["8", "16"]
    assert [(row["dp"], row["ep"], row["prefill_tp"]) for row in rows] == [("16", "16", "")] * 2
    told = swept.to_dict()
    for row, point in zip(rows, told["points"], strict=True):
        for key, metric in point["evaluation"]["metrics"].items():
            assert float(row[key]) == pytest.approx(metric["value"], rel=1e-11)
    assert "<table>" in swept._repr_html_()
    assert swept.sentence in repr(swept)
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = swept.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["tpot"].tolist() == [float(row["tpot"]) for row in rows]
    with pytest.raises(epicycle.BadInput, match="has no page"):
        epicycle.evaluate(KEYS).to_html(tmp_path / "x.html")


def test_without_pandas_the_lever_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(epicycle.BadInput, match=r"epicycle\[pandas\]"):
        epicycle.evaluate(KEYS).to_pandas()


def _all_kinds(tmp_path: Path) -> dict[str, dict[str, Any]]:
    from epicycle.scenarios.say.listing import catalogue_dict

    return {
        "simulate": epicycle.simulate("ep-anatomy").to_dict(),
        "plan": epicycle.plan("plan-deepseek-v3-h200", sets={"search.gpus": 16, "search.confirm": 0}).to_dict(),
        "sweep": epicycle.sweep(KEYS, ["deployment.decode.ep=16,5"]).to_dict(),
        "compare": epicycle.compare(KEYS, sets={"deployment.decode.batch": 8}).to_dict(),
        "explain": epicycle.explain(KEYS).to_dict(),
        "evaluation": epicycle.evaluate(KEYS).to_dict(),
        "catalog": catalogue_dict("gpus", "h200-sxm"),
    }


def test_all_json_stands_in_one_envelope_and_its_schema(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    for kind, told in _all_kinds(tmp_path).items():
        assert list(told)[:4] == ["schema_version", "kind", "epicycle", "units"]
        assert told["kind"] == kind
        jsonschema.Draft202012Validator(schema(kind)).validate(told)
        broken = {**told, "no_such_key": 1}
        assert list(jsonschema.Draft202012Validator(schema(kind)).iter_errors(broken))


def test_shipped_scenarios_stand_in_the_schema_of_scenarios() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    from epicycle.scenarios.ask.gallery import gallery_names
    from epicycle.scenarios.ask.scenario import scenario_document

    checked = jsonschema.Draft202012Validator(schema("scenario"))
    for name in gallery_names():
        assert not list(checked.iter_errors(scenario_document(name).data)), name
    assert list(checked.iter_errors({**KEYS, "slo": {"tpot": 0.06}}))  # a quantity has a unit
    assert not list(checked.iter_errors({**KEYS, "deployment": {"from": "vllm serve m"}}))
    for kind in KINDS:
        jsonschema.Draft202012Validator.check_schema(schema(kind))


def test_the_notebook_runs() -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    names: dict[str, Any] = {}
    cells = json.loads((ROOT / "docs" / "python.ipynb").read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert names["plan"].best.gpus <= 32
    assert len(names["swept"]) == 3


def test_validate_is_a_function_and_a_room(tmp_path: Path) -> None:
    import epicycle.validate.validate  # the room stays what it is

    table = tmp_path / "table.csv"
    table.write_text("not,a,table\n1,2,3\n")
    with pytest.raises(ValueError, match="table"):
        epicycle.validate(table)
