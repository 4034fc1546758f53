"""The YAML of scenario files: plain data only, and every key knows its line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from epicycle.hwmodels import strict_yaml
from epicycle.scenarios.ask.document import ScenarioError, parse_document, read_document


def test_plain_values_follow_the_core_schema() -> None:
    text = "a: 1\nb: 1.5\nc: no\nd: true\ne:\nf: '1'\ng: [1e3, x y, ~]\nh: 3350 GB/s\ni: 1:30\nj: 2026-01-01\n"
    data = parse_document(text, "t").data
    assert data == {
        "a": 1,
        "b": 1.5,
        "c": "no",
        "d": True,
        "e": None,
        "f": "1",
        "g": [1000.0, "x y", None],
        "h": "3350 GB/s",
        "i": "1:30",
        "j": "2026-01-01",
    }


def test_every_key_knows_its_line() -> None:
    document = parse_document("a: 1\nb:\n  c: 2\n  d: [3,\n      4]\n", "file.yaml")
    assert document.where(("a",)) == "file.yaml:1"
    assert document.where(("b", "c")) == "file.yaml:3"
    assert document.where(("b", "d", 1)) == "file.yaml:5"
    assert document.where(("b", "missing", "deep")) == "file.yaml:2"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: [1, 2\n", "t:3: malformed YAML"),
        ("a: 1\n\tb: 2\n", "t:2: malformed YAML"),
        ("a: 1\nb: 2\na: 3\n", "t:3: a is given twice, first at t:1"),
        ("a: !!python/object/apply:os.system ['touch x']\n", "t:1: tag"),
        ("!!python/name:os.system : 1\n", "t:1: a key has to be a plain word"),
        ("a: &x 1\nb: *x\n", "t:1: anchor &x"),
        ("a: 1\n---\nb: 2\n", "t:2: a second document"),
        ("? [1, 2]\n: 3\n", "t:1: a key has to be a plain word"),
        ("a: " + "[" * 50 + "]" * 50, "t:1: nested more than"),
        ("a: 'b\n", "malformed YAML"),
        ("a: \x07\n", "malformed YAML"),
    ],
)
def test_what_is_refused_names_its_line(text: str, said: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse_document(text, "t")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_aliases_cannot_blow_a_document_up() -> None:
    levels = "\n".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 10))
    with pytest.raises(ScenarioError, match="anchor"):
        parse_document(f"l0: &l0 [x]\n{levels}\n", "t")


def test_text_that_is_no_utf8_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(ScenarioError, match=r"s\.yaml:2: not UTF-8"):
        read_document(tmp_path / "s.yaml")


@given(st.text(max_size=200))
def test_any_text_is_data_or_one_clear_line(text: str) -> None:
    try:
        parse_document(text, "t")
    except ScenarioError as error:
        assert str(error).startswith("t")


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), _PLAIN, max_size=5), st.booleans())
def test_both_parsers_of_pyyaml_read_the_same(tree: dict[str, object], flow: bool) -> None:
    """libyaml's, where it is installed, and PyYAML's own."""
    text = yaml.safe_dump(tree, allow_unicode=True, default_flow_style=flow)
    quick, own = (
        strict_yaml._Reader("t", loader, ScenarioError).document(text) for loader in (strict_yaml._QUICK, yaml.SafeLoader)
    )
    assert quick == own
