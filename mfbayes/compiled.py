"""Compiled code that is kept between runs must be of the sources that are there."""

import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType


def made_from[**P, R](*modules: ModuleType) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Name a function for numba's cache after the other modules whose functions, constants or flags it takes.

    Numba compiles a cached function anew when its own file has changed, but not when another file has from which
    something was compiled into it: after an update it would go on with old code.

    Parameters
    ----------
    *modules : module
        All of them, also those called by those called.
    """
    checksum = 0
    for module in modules:
        checksum = zlib.crc32(Path(str(module.__file__)).read_bytes(), checksum)

    def name(function: Callable[P, R]) -> Callable[P, R]:
        function.__qualname__ = f"{function.__qualname__}_{checksum:08x}"
        return function

    return name
