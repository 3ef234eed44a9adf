"""What the page calls the uncertainty that dH is made of: entropy, or the index chosen in its place."""

from dataclasses import dataclass

from mfbayes import names


@dataclass(frozen=True)
class Measure:
    """An index of uncertainty in words.

    Attributes
    ----------
    word : str
        The index itself; empty for entropy, which needs no telling.
    plural : str
        The values of both sides.
    text, image : str
        Symbols of the two sides.
    unit : str
        What both are in; empty where they have no unit.
    remark : str
        The line under every figure made from it; empty for entropy.
    """

    word: str
    plural: str
    text: str
    image: str
    unit: str
    remark: str

    def in_unit(self, before: str) -> str:
        """The unit after some words, or nothing where there is none.

        Examples
        --------
        >>> measure_of("entropy").in_unit(", in "), measure_of("margin").in_unit(", in ")
        (', in nats', '')
        """
        return before + self.unit if self.unit else ""


def measure_of(index: str) -> Measure:
    """The measure of an index of uncertainty, `--index`; entropy where it is unknown.

    Examples
    --------
    >>> measure_of("nll").remark
    'dH is by negative log-likelihood here, not by entropy: U is that of the answer to one input alone, in nats.'
    """
    return _MEASURES.get(index, _ENTROPY)


def _other(word: str, is_what: str, *, unit: str = "") -> Measure:
    remark = f"dH is by {word} here, not by entropy: U is {is_what}."
    return Measure(word, "uncertainties", "U_text", "U_image", unit, remark)


_ENTROPY = Measure("", "entropies", names.H_TEXT, names.H_IMAGE, "nats", "")
_MEASURES = {
    names.MARGIN: _other("margin", "one minus the lead of the likeliest answer to one input alone over the next"),
    names.MAX_PROBABILITY: _other("maximum probability", "one minus that of the likeliest answer to one input alone"),
    names.NLL: _other("negative log-likelihood", "that of the answer to one input alone, in nats", unit="nats"),
}
