"""Names in drawings: estimated widths, wrapped lines, shortened middles. SVG does none of these itself."""

SEPARATORS = "-/_ :"
NARROW = frozenset("iIljtfr.,:;|!'()[]{}/\\-` 1")
WIDE = frozenset("mwMW@%&—")


def width(text: str, *, size: float = 14.0) -> float:
    """Estimated width in px of text in the sans at `size` px; leans to too wide."""

    def advance(letter: str) -> float:
        if letter in NARROW:
            return 0.38
        if letter in WIDE:
            return 0.92
        if ord(letter) > 0x2FF:
            return 1.05
        return 0.7 if letter.isupper() else 0.62

    return size * sum(advance(letter) for letter in text)


def shorten(text: str, limit: float, *, size: float = 14.0) -> str:
    """Keep both ends of a text that is too wide, since names differ at their ends.

    Examples
    --------
    >>> shorten("llava-hf/llava-v1.6-vicuna-7b-hf", 120)
    'llava-h…a-7b-hf'
    """
    if width(text, size=size) <= limit:
        return text
    for kept in range(len(text) - 1, 1, -1):
        head = (kept + 1) // 2
        short = f"{text[:head]}…{text[len(text) - kept + head :]}"
        if width(short, size=size) <= limit:
            return short
    return text[:1] + "…"


def wrap(text: str, limit: float, *, size: float = 14.0, lines: int = 2) -> list[str]:
    """Break a name after its separators into at most `lines` lines, shortening what still does not fit."""
    pieces = _pieces(text)
    rows: list[str] = []
    for piece in pieces:
        if rows and (width(rows[-1] + piece, size=size) <= limit or len(rows) == lines):
            rows[-1] += piece
        else:
            rows.append(piece)
    return [shorten(row.strip(), limit, size=size) for row in rows] or [""]


def without_shared(names: list[str], *, longest: int = 24) -> dict[str, str]:
    """Short forms of long names: what all of them begin or end with is left out, cut at separators.

    Examples
    --------
    >>> without_shared(["lab/vision-model-2b-instruct", "lab/vision-model-72b-instruct"])
    {'lab/vision-model-2b-instruct': '2b', 'lab/vision-model-72b-instruct': '72b'}
    >>> without_shared(["tiny-a", "tiny-b"])
    {'tiny-a': 'tiny-a', 'tiny-b': 'tiny-b'}
    """
    if len(names) < 2 or max(map(len, names)) <= longest:
        return {name: name for name in names}
    split = [_pieces(name) for name in names]
    head = _shared(split)
    tail = _shared([pieces[head:][::-1] for pieces in split])
    short = {name: "".join(p[head : len(p) - tail]).rstrip(SEPARATORS) for name, p in zip(names, split, strict=True)}
    return short if all(short.values()) and len(set(short.values())) == len(names) else {name: name for name in names}


def _shared(lists: list[list[str]]) -> int:
    """How many first pieces are the same in all lists."""
    return next((i for i, column in enumerate(zip(*lists, strict=False)) if len(set(column)) > 1), min(map(len, lists)))


def _pieces(text: str) -> list[str]:
    pieces = [""]
    for letter in text:
        pieces[-1] += letter
        if letter in SEPARATORS:
            pieces.append("")
    return [piece for piece in pieces if piece]
