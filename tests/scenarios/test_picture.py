"""The README's picture shows what the code answers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from xml.etree import ElementTree

_SPEC = importlib.util.spec_from_file_location("picture", Path(__file__).with_name("picture.py"))
assert _SPEC and _SPEC.loader
picture = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(picture)


def test_the_picture_is_current_and_inside_its_frame() -> None:
    drawn = picture.picture()
    assert drawn == picture.PATH.read_text(encoding="utf-8"), "draw it anew: python tests/scenarios/picture.py"
    for shape in ElementTree.fromstring(drawn).iter():
        for key, most in (("x", picture.WIDTH), ("cx", picture.WIDTH), ("y", picture.HEIGHT), ("cy", picture.HEIGHT)):
            assert 0 <= float(shape.get(key, 0)) <= most
        assert float(shape.get("x", 0)) + float(shape.get("width", 0)) <= picture.WIDTH
