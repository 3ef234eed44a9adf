"""Checks a loaded model before it is asked: the lens is true, images matter, and which way of asking is exact."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from transformers import DynamicCache

from mfbayes.errors import InputError
from mfbayes.inference.asking import AUTO, Asker
from mfbayes.inference.encoding import Encoded
from mfbayes.inference.loading import LoadedModel
from mfbayes.inference.passes import CACHED, DEDUPLICATED, NAIVE, PACKED, PACKED_BLOCKS, forget_positions
from mfbayes.inference.prompts import Prompt
from mfbayes.inference.sharing import Bundle, bundle

_SHORT: Final = "What is it? Please use one word to answer this question."
_LONG: Final = f"The thing is as it is. Another thing is as it was. {_SHORT}"
# Cheapest first.
_WAYS: Final = (PACKED, PACKED_BLOCKS, CACHED, DEDUPLICATED)
# Largest difference over the size of the logits: rounding stays far below, a wrong position or mask far above.
_TOLERANCE: Final = {"float32": 1e-3, "bfloat16": 0.15, "float16": 0.03}
# The same for ways of asking, which must not be worse than rounding.
_EXACT: Final = {"float32": 1e-5, "bfloat16": 0.03, "float16": 4e-3}
# A way may be so many times as far off as padded batches are.
_ALLOWANCE: Final = 4.0
_FAILURES: Final = (RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError, InputError)


def check_model(
    asker: Asker,
    loaded: LoadedModel,
    *,
    answers: tuple[str, ...],
    batch_size: int,
    questions: Sequence[str] = (_LONG, _SHORT),
) -> dict[str, Any]:
    """Ask two noise images some questions, one by one and in every way, and let the asker take the best way.

    Parameters
    ----------
    asker : Asker
        Its `way` is set, unless it was made with one; then that one is checked.
    loaded : LoadedModel
    answers : tuple of str
        A text and an image answer.
    batch_size : int
        Prompts a forward pass.
    questions : sequence of str
        Two at least, such as those of the run.

    Returns
    -------
    dict
        `lens_error` and `batch_sensitivity`: largest difference of logits between the lens's last layer and the
        model's own, and between batches, as they will be asked, and single prompts. `image_sensitivity`: largest
        difference that another image makes. `way` and `way_reason`; by way, `difference_WAY` (largest difference
        of any layer's logits from single prompts) or `failure_WAY`. `goes_on`: whether answers of several tokens
        go on from a cache, with `difference_going_on` or `failure_going_on`.

    Raises
    ------
    InputError
        If logits are not finite, the lens or a batch gives other ones than the model itself, images do not
        matter, or the way asked for is not exact.
    """
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)) for _ in range(2)]
    prompts = [Prompt(question, "noise", answers) for question in questions]
    encoded = [asker.encoder.encode_image(prompts, image) for image in noise]
    first, second = encoded
    batch = [first[0], second[1]]
    together = asker.logits(batch, layers=True)[:, -1].double()
    alone = torch.stack([_plain_logits(asker, loaded, entry) for entry in batch])
    read = torch.cat([asker.logits([entry], layers=True)[:, -1].double() for entry in batch])
    if not bool(torch.isfinite(alone).all()):
        raise InputError(
            f"{asker.name} gives logits that are not finite. Ask it in a wider precision (--dtype float32), or "
            "fetch its weights again."
        )
    scale = max(float(alone.abs().max()), 1e-6)
    errors: dict[str, Any] = {
        "lens_error": float((read - alone).abs().max()),
        "batch_sensitivity": float((together - alone).abs().max()),
    }
    limit = _TOLERANCE[loaded.dtype] * scale
    if not errors["lens_error"] <= limit:
        raise InputError(
            f"The lens does not show what {asker.name} computes: its last layer is {errors['lens_error']:.2g} off "
            f"in logits of size {scale:.2g}. This model cannot be read layer by layer."
        )
    if batch_size > 1 and not errors["batch_sensitivity"] <= limit:
        raise InputError(
            f"{asker.name} answers differently in a padded batch ({errors['batch_sensitivity']:.2g} in logits of size "
            f"{scale:.2g}). Ask it with --batch-size 1."
        )
    other = _plain_logits(asker, loaded, second[0])
    if torch.equal(other, alone[0]):
        raise InputError(f"{asker.name} ignores images: two different ones give the same logits. Choose another model.")
    errors["image_sensitivity"] = float((other - alone[0]).abs().max())
    texts = asker.encoder.encode_texts([Prompt(question) for question in questions])
    errors |= _choose_way(asker, encoded, texts, loaded.dtype, batch_size, errors["batch_sensitivity"])
    limit = max(_EXACT[loaded.dtype] * scale, _ALLOWANCE * errors["batch_sensitivity"])
    return errors | _check_going_on(asker, loaded, [encoded[0], texts], limit)


def _choose_way(
    asker: Asker,
    encoded: Sequence[list[Encoded]],
    texts: Sequence[Encoded],
    dtype: str,
    batch_size: int,
    batch_sensitivity: float,
) -> dict[str, Any]:
    """Let the asker take the cheapest way that is exact, and say why."""
    wanted = asker.wanted
    if batch_size == 1:
        return {"way": NAIVE, "way_reason": "naive: prompts are asked one at a time"}
    if wanted == NAIVE:
        return {"way": NAIVE, "way_reason": "naive: as asked for"}
    together = [entry for entries in encoded for entry in entries]
    if wanted == AUTO and not any(found.n_shared for found in bundle(together, image_token=asker.passes.image_token)):
        return {"way": NAIVE, "way_reason": "naive: prompts part before the image ends, so they share nothing"}
    alone = [torch.cat([asker.logits([entry], layers=True) for entry in together])]
    alone.append(torch.cat([asker.logits([entry], layers=False) for entry in texts]))
    scale = max(float(logits.abs().max()) for logits in alone)
    limit = max(_EXACT[dtype] * scale, _ALLOWANCE * batch_sensitivity)
    record: dict[str, Any] = {}
    rejected: list[str] = []
    for way in _WAYS if wanted == AUTO else (wanted,):
        try:
            difference = _difference(asker, way, together, texts, alone)
        except _FAILURES as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            record[f"failure_{way}"] = f"{type(error).__name__}: {error}"[:300]
            rejected.append(f"{way} does not run")
            continue
        record[f"difference_{way}"] = difference
        if difference <= limit:
            asker.way = way
            reason = f"{way}: {difference:.1e} off single prompts in logits of size {scale:.2g}"
            sensitivity = max(batch_sensitivity, difference)
            return record | {
                "way": way,
                "way_reason": "; ".join([reason, *rejected]),
                "batch_sensitivity": sensitivity,
            }
        rejected.append(f"{way} is {difference:.1e} off")
    if wanted != AUTO:
        raise InputError(
            f"{asker.name} cannot be asked in the way {wanted}: {'; '.join(rejected)}. Leave the way to the self-test."
        )
    asker.way = NAIVE
    return record | {"way": NAIVE, "way_reason": "; ".join(["naive: no other way is exact", *rejected])}


def _check_going_on(
    asker: Asker, loaded: LoadedModel, groups: Sequence[Sequence[Encoded]], limit: float
) -> dict[str, Any]:
    """Let the asker go on from caches, if that gives what the model gives when it goes on by itself."""
    asker.goes_on = True
    differences = []
    try:
        for entries in groups:
            bundles = list(bundle(entries, image_token=asker.passes.image_token))
            if asker.way == NAIVE:
                bundles = [Bundle((entry,), 0) for entry in entries]
            for found in bundles:
                _, trail = asker.start([found])
                if trail is None:
                    continue
                # Any tokens will do; these the model knows.
                continued = [(row, tuple(entry.sequences["input_ids"][-2:])) for row, entry in enumerate(found.entries)]
                logits = asker.passes.follow(trail, continued).double()
                for (row, tokens), ours in zip(continued, logits, strict=True):
                    own = _own_steps(asker, loaded, found.entries[row], tokens)
                    differences.append(float((ours - own).abs().max()))
    except _FAILURES as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        asker.goes_on = False
        return {"goes_on": False, "failure_going_on": f"{type(error).__name__}: {error}"[:300]}
    difference = float(np.max(differences))
    asker.goes_on = difference <= limit
    return {"goes_on": asker.goes_on, "difference_going_on": difference}


def _own_steps(asker: Asker, loaded: LoadedModel, entry: Encoded, tokens: Sequence[int]) -> torch.Tensor:
    """Logits after a prompt and some tokens, taken one by one as the model does when it generates; float64."""
    inputs: dict[str, Any] = asker.encoder.pad([entry], device=loaded.device, dtype=loaded.model.dtype)
    cache = DynamicCache(config=loaded.model.config)
    more = {name: values[-1] for name, values in entry.sequences.items() if isinstance(values[-1], list)}
    repeated = {name: torch.tensor([[value]], device=loaded.device) for name, value in more.items()}
    forget_positions(loaded.model)
    with torch.inference_mode():
        loaded.model(**inputs, past_key_values=cache, use_cache=True)
        for token in tokens:
            ids = torch.tensor([[token]], device=loaded.device)
            logits: torch.Tensor = loaded.model(input_ids=ids, past_key_values=cache, use_cache=True, **repeated).logits
    return logits[0, -1].double()


def _difference(
    asker: Asker, way: str, together: Sequence[Encoded], texts: Sequence[Encoded], alone: Sequence[torch.Tensor]
) -> float:
    """Largest difference of a way's logits from those of single prompts; infinite where some are no numbers."""
    asked = [asker.logits(together, layers=True, way=way), asker.logits(texts, layers=False, way=way)]
    differences = [float((found - own).abs().max()) for found, own in zip(asked, alone, strict=True)]
    if not all(np.isfinite(differences)):
        raise InputError("its logits are not finite")
    return max(differences)


def _plain_logits(asker: Asker, loaded: LoadedModel, entry: Encoded) -> torch.Tensor:
    """Last logits of one prompt, from the model as it is, in float64."""
    inputs: dict[str, Any] = asker.encoder.pad([entry], device=loaded.device, dtype=loaded.model.dtype)
    forget_positions(loaded.model)
    with torch.inference_mode():
        logits: torch.Tensor = loaded.model(**inputs, use_cache=False).logits
    return logits[0, -1].double()
