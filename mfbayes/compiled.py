"""Kernels: compiled by numba, kept between runs, and compiled anew when any source that they are made of has changed.

Numba keeps a compiled function until its own file changes, but what it calls is compiled into it: after an update of
another file it would go on with old code. So its name in numba's cache carries a checksum of all of them.

Kernels are always compiled into what calls them: the machine code of a copy apart may round differently, and which of
the two ran would depend on what was kept from runs before. The same input gives the same bits, first time or not.
"""

import ast
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import numba as nb

REORDERED: Final = {"contract", "reassoc", "nsz", "arcp"}
"""For `fastmath`: sums may be reordered, so that they use vector registers; infinities and NaN keep their meaning."""


def compiled(**flags: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function without Python objects or the interpreter's lock, divisions by zero giving infinities.

    Parameters
    ----------
    **flags
        More options of `numba.njit`, such as ``fastmath=REORDERED`` or ``inline="always"``.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        options = {"cache": True, "nogil": True, "error_model": "numpy", "forceinline": True} | flags
        return nb.njit(**options)(named_by_sources(function))

    return decorate


def named_by_sources[F: Callable[..., Any]](function: F) -> F:
    """Name a function that numba will keep after its sources: its module's and those imported there, all the way."""
    function.__qualname__ = f"{function.__qualname__}_{_checksum(function.__module__):08x}"
    return function


@cache
def _checksum(module: str) -> int:
    checksum = 0
    for name in sorted(_closure(module)):
        checksum = zlib.crc32(_read_source(name), checksum)
    return checksum


def _closure(module: str) -> set[str]:
    """A module and all of its package that its imports lead to."""
    found, ahead = set[str](), [module]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead.extend(_imports(name))
    return found


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Modules of its package that a module imports when it is loaded, not later in a function or under a condition."""
    root = module.partition(".")[0]
    return tuple(
        name
        for statement in ast.parse(_read_source(module)).body
        for name in _name_imported(statement, sys.modules)
        if name.partition(".")[0] == root
    )


def _name_imported(statement: ast.stmt, modules: Mapping[str, object]) -> Iterator[str]:
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom) and statement.module:
        for alias in statement.names:
            inner = f"{statement.module}.{alias.name}"
            yield inner if inner in modules else statement.module


@cache
def _read_source(module: str) -> bytes:
    return Path(str(sys.modules[module].__file__)).read_bytes()
