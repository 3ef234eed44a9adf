"""Python values printed into text files, read back without running anything."""

import ast
import math
from collections.abc import Mapping
from typing import Any

from mfbayes.errors import InputError

_LONGEST = 2_000_000
_NUMBERS = {"inf": math.inf, "nan": math.nan}


def read_literal(text: str) -> Any:
    """Read the printed form of numbers, strings, lists, dicts and records, as `repr` writes them.

    A record such as `Token(id=3, logprob=-.5)` becomes the dict of its fields. The text is taken apart by
    Python's own parser and nothing in it is evaluated: names, other calls, operators and
    comprehensions are refused.

    Parameters
    ----------
    text : str
        At most two million characters.

    Raises
    ------
    InputError
        Where the text is no such value.

    Examples
    --------
    >>> read_literal("[Token(text='a', logprob=-0.5), {'logprob': None}]")
    [{'text': 'a', 'logprob': -0.5}, {'logprob': None}]
    """
    if len(text) > _LONGEST:
        raise InputError(f"Expected a printed value of at most {_LONGEST:,} characters, got {len(text):,}.")
    try:
        return _read(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise InputError(f"Expected a printed Python value, got {_shorten(text)!r}.") from error


def read_logprobs(text: Any) -> list[float] | None:
    """Log-probabilities of the tokens of an answer, or None where the file has none.

    Parameters
    ----------
    text : str, list or None
        The printed or JSON form of a list of records with `logprob`; "None" where there is none.

    Raises
    ------
    InputError
        Where it is something else, or a log-probability is above zero or no number.
    """
    value = read_literal(text) if isinstance(text, str) else text
    if value is None or value == []:
        return None
    if not isinstance(value, list):
        raise InputError(f"Expected a list of tokens with 'logprob', got {_shorten(str(text))!r}.")
    found = [token.get("logprob") if isinstance(token, Mapping) else token for token in value]
    numbers = [float(each) for each in found if isinstance(each, (int, float)) and not isinstance(each, bool)]
    # Rounding in the files leaves a few log-probabilities above zero by less than this.
    if len(numbers) < len(found) or any(math.isnan(each) or each > 1e-6 for each in numbers):
        raise InputError(f"Expected tokens whose 'logprob' is a number of at most 0, got {_shorten(str(text))!r}.")
    return numbers


def _read(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = _read(operand)
            if isinstance(value, (int, float)):
                return -value
        case ast.List(elts) | ast.Tuple(elts):
            return [_read(each) for each in elts]
        case ast.Dict(keys, values) if None not in keys:
            return {_read(key): _read(value) for key, value in zip(keys, values, strict=True) if key is not None}
        case ast.Call(func=ast.Name(), args=[], keywords=fields) if all(field.arg for field in fields):
            return {field.arg: _read(field.value) for field in fields}
        case ast.Name(name) if name in _NUMBERS:
            return _NUMBERS[name]
    raise ValueError(type(node).__name__)


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
