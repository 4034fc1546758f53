"""Routings read from files: exact, and one clear line where a file is wrong."""

import numpy as np
import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.sim.layer.routing_file import read_histogram_or_choices


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_choices_are_taken_as_they_stand(tmp_path, drawn):
    """Six tokens of two ranks, eight experts, four a rank: every count by hand."""
    rows = [(0, 1), (0, 4), (5, 6), (7, 0), (3, 2), (4, 7)]
    file = written(tmp_path / "topk.csv", "".join(f"{a},{b}\n" for a, b in rows))
    found = drawn("file", 8, 2, [4, 2], domain=1, file=file)
    assert found.expert_load.tolist() == [3, 1, 1, 1, 2, 1, 1, 2]
    assert found.expert_rows.tolist() == [[4, 4], [2, 2]]
    assert found.rank_rows.tolist() == found.node_rows.tolist() == [[3, 3], [1, 1]]


def test_a_longer_file_serves_its_first_tokens(tmp_path, drawn):
    file = written(tmp_path / "topk.csv", "0,1\n2,3\n4,5\n6,7\n")
    assert drawn("file", 8, 2, [1, 1], domain=1, file=file).expert_load.tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


def test_blank_lines_and_a_byte_order_mark_do_not_count(tmp_path):
    file = tmp_path / "topk.csv"
    file.write_bytes(b"\xef\xbb\xbf0,1\r\n\r\n 2, 3\r\n")
    assert read_histogram_or_choices(file, 4, 2).choices.tolist() == [[0, 1], [2, 3]]


def test_a_histogram_draws_in_proportion(tmp_path, drawn):
    """Top-1 from weights 1 : 2 : 5 : 0: within five standard deviations, and never the expert nobody chose."""
    file = written(tmp_path / "load.csv", "expert,count\n0,1\n1,2\n2,5\n")
    tokens = 20_000
    found = drawn("file", 4, 1, [tokens // 2] * 2, domain=1, file=file).expert_load
    share = np.array([1, 2, 5, 0]) / 8
    assert (np.abs(found - tokens * share) <= 5 * np.sqrt(tokens * share * (1 - share))).all()


def test_a_file_that_changes_is_read_again(tmp_path):
    import os

    file = written(tmp_path / "topk.csv", "0,1\n")
    assert read_histogram_or_choices(file, 4, 2).choices.tolist() == [[0, 1]]
    written(file, "2,3\n")
    os.utime(file, ns=(1, 1))
    assert read_histogram_or_choices(file, 4, 2).choices.tolist() == [[2, 3]]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "wanted 2 expert ids a line, or the header expert,count and a line an expert; it is empty"),
        ("0,1\n2,8\n", "line 2: expert 8 is not one of 0..7"),
        ("0,1\n\n-1,2\n", "line 3: expert -1 is not one of 0..7"),
        ("0,1\n2,2\n", "line 2: an expert is named twice for one token"),
        ("0,1\n2\n", "line 2: wanted 2 whole numbers, got 1"),
        ("0,1,2\n", "line 1: wanted 2 whole numbers, got 3"),
        ("0,1\n2,x\n", "line 2: wanted 2 whole numbers, got '2,x'"),
        ("0,1.5\n", "line 1: wanted 2 whole numbers, got '0,1.5'"),
        ("expert,count\n0,5\n", "at least top_k (2) experts with some"),
        ("expert,count\n0,5\n1,-5\n2,3\n", "counts of zero or more"),
        ("expert,count\n0,5\n9,5\n", "line 3: expert 9 is not one of 0..7"),
        ("expert,count\n", "it is empty"),
    ],
)
def test_a_malformed_file_is_one_line(tmp_path, text, complaint):
    file = written(tmp_path / "bad.csv", text)
    with pytest.raises(BadInput) as refused:
        read_histogram_or_choices(file, 8, 2)
    said = str(refused.value)
    assert said.startswith(f"{file}: ") and complaint in said and "\n" not in said


def test_too_few_tokens_and_bytes_that_are_no_text(tmp_path, drawn):
    file = written(tmp_path / "topk.csv", "0,1\n")
    with pytest.raises(BadInput, match="holds 1 tokens, the traffic has 2: lower tokens_per_rank or record more"):
        drawn("file", 8, 2, [1, 1], file=file)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="not UTF-8 text"):
        read_histogram_or_choices(tmp_path / "binary", 8, 2)


def test_a_huge_number_is_a_complaint_too(tmp_path):
    with pytest.raises(BadInput):
        read_histogram_or_choices(written(tmp_path / "huge.csv", f"0,{10**30}\n"), 8, 2)
