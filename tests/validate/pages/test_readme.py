"""The README's accuracy table is what `epicycle validate` prints today."""

import re
from pathlib import Path

import pytest

from epicycle.validate.validate import validate_table

ROOT = Path(__file__).parents[3]
TABLE = ROOT.parent / "shared" / "measurements" / "ep_comm.csv"
ROW = re.compile(
    r"^\| (\w+) \| ([\w-]+) \| (\w+) \| (\d+) \| ([\d,]+) \| ([\d.]+) \| ([\d.]+) \| ([+-][\d.]+) \|$", re.MULTILINE
)


@pytest.mark.skipif(not TABLE.exists(), reason="the measurement tables lie beside the checkout")
def test_the_readme_carries_todays_errors() -> None:
    groups = {(g.system, g.protocol, g.op, g.nodes): g for g in validate_table(TABLE).groups}
    printed = ROW.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    wanted = {k for k in groups if k[0] == "h100_sxm" or k[1].startswith("nvlink")}
    assert {(s, p, o, int(n)) for s, p, o, n, *_ in printed} == wanted
    for system, protocol, op, nodes, rows, mape, median, bias in printed:
        group = groups[system, protocol, op, int(nodes)]
        assert group.rows == int(rows.replace(",", ""))
        for said, now in ((mape, group.mape_pct), (median, group.median_ape_pct), (bias, group.bias_pct)):
            assert abs(float(said) - now) < 0.06, (system, protocol, op, nodes)
