"""The page's style sheet with its fonts inside, and the policy that lets nothing else run."""

import base64
import hashlib
from functools import cache
from importlib.resources import files

from mfbayes.reports.palette import DARK, LIGHT, LIGHT_DIVERGING, LIGHT_MODELS, variables

FONTS = (("Mfbayes Sans", "mfbayes-sans.woff2"), ("Mfbayes Serif", "mfbayes-serif.woff2"))


@cache
def style_sheet() -> str:
    """The whole CSS of the page."""
    folder = files("mfbayes.reports")
    faces = "".join(
        f'@font-face{{font-family:"{family}";font-weight:400 650;font-display:block;'
        f"src:url(data:font/woff2;base64,{base64.b64encode((folder / 'fonts' / name).read_bytes()).decode()})"
        f' format("woff2")}}\n'
        for family, name in FONTS
    )
    light, dark = variables(LIGHT), variables(DARK)
    schemes = (
        f":root{{color-scheme:light dark;{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
    )
    models = "".join(f".m{i}{{--c:var(--model-{i})}}" for i in range(len(LIGHT_MODELS)))
    ramp = "".join(
        f"svg .q{i}{{fill:var(--ramp-{i})}}td.q{i}{{background:var(--ramp-{i})}}" for i in range(len(LIGHT_DIVERGING))
    )
    return f"{faces}{schemes}{models}\n{ramp}\n{(folder / 'templates' / 'style.css').read_text(encoding='utf-8')}"


def content_policy(css: str) -> str:
    """Content-Security-Policy: no network, no script, and only this very style sheet."""
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; font-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
