"""One way to print numbers: a real minus sign, no "1.00" for a probability that is less than one."""

import math

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"


def decimal(value: float, *, digits: int = 2) -> str:
    """Print a number with fixed digits; absent where it is NaN, never "-0.00".

    Examples
    --------
    >>> decimal(-0.614), decimal(-0.001), decimal(float("nan"))
    ('−0.61', '0.00', '–')
    """
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return MINUS + "∞" if value < 0 else "∞"
    text = f"{abs(value):.{digits}f}"
    return MINUS + text if value < 0 and float(text) != 0 else text


def probability(value: float) -> str:
    """Print a probability so that only what is certain reads as certain.

    Examples
    --------
    >>> probability(0.9991), probability(0.004), probability(0.42), probability(1.0)
    ('> 0.99', '< 0.01', '0.42', '> 0.99')
    """
    if math.isnan(value):
        return DASH
    if value > 0.99:
        return "> 0.99"
    return "< 0.01" if value < 0.01 else f"{value:.2f}"


def percent(value: float) -> str:
    r"""Print a share as a percentage, keeping a small one apart from none.

    Examples
    --------
    >>> [percent(share).replace("\N{NO-BREAK SPACE}", " ") for share in (0.314, 0.0004, 0.0, 0.9999)]
    ['31 %', '< 1 %', '0 %', '> 99 %']
    """
    if math.isnan(value):
        return DASH
    if 0 < value < 0.01:
        return "< 1\N{NO-BREAK SPACE}%"
    if 0.99 < value < 1:
        return "> 99\N{NO-BREAK SPACE}%"
    return f"{100 * value:.0f}\N{NO-BREAK SPACE}%"


def count(value: float) -> str:
    """Print a count with thousands apart.

    Examples
    --------
    >>> count(16800)
    '16,800'
    """
    return DASH if math.isnan(value) else f"{round(value):,}"


def interval(lower: float, upper: float, *, digits: int = 2) -> str:
    """Print an interval in brackets.

    Examples
    --------
    >>> interval(-0.66, -0.55)
    '[−0.66, −0.55]'
    """
    return f"[{decimal(lower, digits=digits)}, {decimal(upper, digits=digits)}]"


NUMERALS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def numeral(value: int) -> str:
    """Spell a small count out, as running text does.

    Examples
    --------
    >>> numeral(5), numeral(40)
    ('five', '40')
    """
    return NUMERALS[value] if 0 <= value < len(NUMERALS) else count(value)


def listing(items: list[str]) -> str:
    """Join words as a sentence does.

    Examples
    --------
    >>> listing(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
