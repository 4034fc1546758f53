"""The evidence: measure on hardware, fit, predict against measurements, report the error.

``epicycle.validate`` is this room, and can be called as the function that its api has: one name for both.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Any:
        from .api import validate

        return validate(*args, **options)


sys.modules[__name__].__class__ = _Room
