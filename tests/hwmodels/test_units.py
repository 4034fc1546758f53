"""Quantities with units: what is read, what is refused and what the refusal says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from epicycle.hwmodels import units
from epicycle.hwmodels.units import SI_NUMBERS, Bytes, BytesPerSecond, Seconds, format_bytes, format_rate, format_time

DIMENSIONS = [units.BYTES, units.BYTES_PER_SECOND, units.HERTZ, units.PER_SECOND, units.SECONDS, units.DURATION, units.WATTS]


class Wire(BaseModel):
    bandwidth: BytesPerSecond
    latency: Seconds = 0.0
    buffer: Bytes = 1.0


@pytest.mark.parametrize(
    ("dimension", "text", "value"),
    [
        (units.BYTES_PER_SECOND, "450 GB/s", 450e9),
        (units.BYTES_PER_SECOND, "400 Gb/s", 50e9),
        (units.BYTES_PER_SECOND, "400Gbps", 50e9),
        (units.BYTES_PER_SECOND, "1 GiB/s", 2.0**30),
        (units.BYTES, "80 GB", 80e9),
        (units.BYTES, "80 GiB", 80 * 2.0**30),
        (units.SECONDS, "2.1 us", 2.1e-6),
        (units.SECONDS, "2.1 µs", 2.1e-6),
        (units.SECONDS, "0 us", 0.0),
        (units.HERTZ, "1.98 GHz", 1.98e9),
        (units.WATTS, "700 W", 700.0),
        (units.PER_SECOND, "30 M/s", 30e6),
        (units.DURATION, "45 s", 45.0),
        (units.DURATION, "2 h", 7200.0),
    ],
)
def test_units_are_read_exactly(dimension: units.Dimension, text: str, value: float) -> None:
    assert dimension.parse(text) == value


@pytest.mark.parametrize(
    ("dimension", "text", "says"),
    [
        (units.BYTES_PER_SECOND, "450", 'needs a unit: write "450 GB/s" or "450 Gb/s"'),
        (units.BYTES_PER_SECOND, "450 gb/s", 'did you mean "450 GB/s" or "450 Gb/s"'),
        (units.BYTES_PER_SECOND, "450 GB", "per second: write GB/s"),
        (units.BYTES_PER_SECOND, "2 PB/s", "beyond 1000 TB/s is absurd"),
        (units.BYTES_PER_SECOND, "450 B/s", "is a prefix missing?"),
        (units.BYTES_PER_SECOND, "0 GB/s", "must be positive"),
        (units.BYTES, "80 Gb", "Gb is bits: write GB"),
        (units.BYTES, "-1 GB", "must be positive"),
        (units.SECONDS, "1.5 s", "absurd"),
        (units.SECONDS, "-1 us", "zero or more"),
        (units.SECONDS, "fast", "such as"),
        (units.SECONDS, "", "such as"),
        (units.SECONDS, "nan us", "such as"),
        (units.HERTZ, "3 us", "is not a unit of a clock"),
        (units.BYTES, "3,200 GB", "is not a unit"),
        (units.BYTES, "1e999 GB", "must be finite"),
        (units.BYTES, "1e999999999 GB", "must be finite"),
        (units.BYTES, "1e-999999999 GB", "must be positive"),
    ],
)
def test_a_wrong_quantity_is_refused_with_the_lever(dimension: units.Dimension, text: str, says: str) -> None:
    with pytest.raises(ValueError) as refusal:
        dimension.parse(text)
    assert says in str(refusal.value)


@pytest.mark.parametrize("number", [450, 450e9, True, None])
def test_a_bare_number_is_refused(number: object) -> None:
    with pytest.raises(ValidationError, match="GB/s"):
        Wire.model_validate({"bandwidth": number})


def test_si_numbers_are_taken_where_the_code_says_so() -> None:
    assert Wire.model_validate({"bandwidth": 50e9}, context=SI_NUMBERS).bandwidth == 50e9
    with pytest.raises(ValidationError, match="absurd"):
        Wire.model_validate({"bandwidth": 50e18}, context=SI_NUMBERS)


def test_json_reads_back_as_the_same_record() -> None:
    wire = Wire.model_validate({"bandwidth": "400 Gb/s", "latency": "2.1 us", "buffer": "3 GiB"})
    assert wire.model_dump(mode="json") == {"bandwidth": "50 GB/s", "latency": "2.1 us", "buffer": "3.221225472 GB"}
    assert Wire.model_validate_json(wire.model_dump_json()) == wire


@given(data=st.data(), dimension=st.sampled_from(DIMENSIONS))
def test_what_is_written_reads_back_exactly(data: st.DataObject, dimension: units.Dimension) -> None:
    value = data.draw(st.floats(dimension.low, dimension.high, allow_nan=False))
    assert dimension.parse(dimension.write(value)) == value


@given(data=st.data(), dimension=st.sampled_from(DIMENSIONS), text=st.text(max_size=12))
def test_any_text_is_a_quantity_or_a_value_error(data: st.DataObject, dimension: units.Dimension, text: str) -> None:
    unit = data.draw(st.sampled_from(["", *dimension.units]))
    try:
        assert dimension.low <= dimension.parse(text + unit) <= dimension.high
    except ValueError as refusal:
        assert str(refusal)


def test_people_read_three_digits() -> None:
    assert format_bytes(1_911_554_048, binary=True) == "1.78 GiB"
    assert format_bytes(70_272) == "70.3 kB"
    assert format_bytes(0) == "0 B"
    assert format_bytes(999_999) == "1 MB"
    assert format_rate(43.5e9) == "43.5 GB/s"
    assert format_time(2.1e-6) == "2.1 us"
    assert format_time(0.01476) == "14.8 ms"
    assert format_time(5400) == "5400 s"
