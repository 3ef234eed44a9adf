"""Checks a loaded model before it is asked: the lens is true, images matter, and which way of asking is exact."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from transformers import DynamicCache

from mfbayes.errors import InputError
from mfbayes.inference.asking import Asker
from mfbayes.inference.encoding import Encoded
from mfbayes.inference.loading import LoadedModel
from mfbayes.inference.memory import is_out_of_memory
from mfbayes.inference.parts import name_broken_weights
from mfbayes.inference.passes import CACHED, DEDUPLICATED, NAIVE, PACKED, PACKED_BLOCKS, forget_positions
from mfbayes.inference.prompts import Prompt
from mfbayes.inference.sharing import Bundle, bundle
from mfbayes.names import AUTO

_SHORT: Final = "What is it? Please use one word to answer this question."
_LONG: Final = f"The thing is as it is. Another thing is as it was. {_SHORT}"
# Cheapest first.
_WAYS: Final = (PACKED, PACKED_BLOCKS, CACHED, DEDUPLICATED)
# Largest difference over the size of the logits: rounding stays far below, a wrong position or mask far above.
_TOLERANCE: Final = {"float32": 1e-3, "bfloat16": 0.15, "float16": 0.03}
# A way's root mean square difference over that of the logits, in the layer where it is largest: rounding is allowed
# a few units in the last place, or a few times what padded batches do, within bounds that a wrong mask breaks.
_EXACT: Final = {"float32": (1e-5, 1e-4), "bfloat16": (0.015, 0.04), "float16": (2e-3, 5e-3)}
_ALLOWANCE: Final = 3.0
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
        model's own, and between prompts as they will be asked and single prompts. `image_sensitivity`: largest
        difference that another image makes. `way` and `way_reason`; by way as far as they were tried,
        `difference_WAY` (root mean square difference from single prompts over that of the logits, in the worst
        layer) or `failure_WAY`. `goes_on`: whether answers of several tokens go on from a cache, with
        `difference_going_on` or `failure_going_on`.

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
    together = _exact(asker.logits(batch, layers=True)[:, -1])
    alone = torch.stack([_plain_logits(asker, loaded, entry) for entry in batch])
    read = _exact(torch.cat([asker.logits([entry], layers=True)[:, -1] for entry in batch]))
    if not bool(torch.isfinite(alone).all()):
        if broken := name_broken_weights(loaded.model):
            raise InputError(f"{asker.name} has weights that are not finite: {broken}. Fetch or save it again.")
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
    check = Exactness(asker, loaded, encoded, texts)
    errors |= choose_way(asker, check, batch_size=batch_size)
    errors["batch_sensitivity"] = max(errors["batch_sensitivity"], check.last_differences[asker.way])
    return errors | check_going_on(asker, check)


class Exactness:
    """Prompts with the logits that each has in a pass of its own, and how far from them another way may be.

    Parameters
    ----------
    asker : Asker
    loaded : LoadedModel
    images : sequence of list of Encoded
        Prompts about one image each, whose layers are read.
    texts : sequence of Encoded
        Prompts without an image.
    """

    def __init__(
        self, asker: Asker, loaded: LoadedModel, images: Sequence[list[Encoded]], texts: Sequence[Encoded]
    ) -> None:
        self.groups = ([entry for entries in images for entry in entries], list(texts))
        self.loaded = loaded
        self.last_differences: dict[str, float] = {}
        self._asker = asker
        self._alone = [torch.cat([self._ask([entry], NAIVE) for entry in group]) for group in self.groups]
        least, most = _EXACT[loaded.dtype]
        self.limit = min(max(least, _ALLOWANCE * self.differ(NAIVE)), most)

    @property
    def shares(self) -> bool:
        """Whether prompts about an image begin alike up to where it ends."""
        return any(found.n_shared for found in bundle(self.groups[0], image_token=self._asker.passes.image_token))

    def differ(self, way: str) -> float:
        """Root mean square difference of a way's logits over that of the logits, in the worst layer.

        `last_differences` then has the way's largest difference in the last layer, in logits.

        Raises
        ------
        InputError
            Where logits are not finite.
        """
        worst, last = 0.0, 0.0
        for group, alone in zip(self.groups, self._alone, strict=True):
            apart = self._ask(group, way) - alone
            worst = max(worst, relative_size(apart, alone))
            last = max(last, float(apart[:, -1].abs().max()))
        if not np.isfinite(worst):
            raise InputError("its logits are not finite")
        self.last_differences[way] = last
        return worst

    def _ask(self, entries: Sequence[Encoded], way: str) -> torch.Tensor:
        return _exact(self._asker.logits(entries, layers=bool(entries[0].prompt.answers), way=way))


def relative_size(apart: torch.Tensor, logits: torch.Tensor) -> float:
    """Root mean square of differences over that of logits, in the worst of the layers (n_prompts, n_layers, n)."""
    sizes = [values.square().mean(dim=(0, 2)).sqrt() for values in (apart, logits)]
    return float((sizes[0] / sizes[1].clamp_min(1e-12)).max())


def choose_way(asker: Asker, check: Exactness, *, batch_size: int) -> dict[str, Any]:
    """Let the asker take the cheapest way that is exact, and say why."""
    wanted = asker.wanted
    if batch_size == 1:
        return {"way": NAIVE, "way_reason": "naive: prompts are asked one at a time"}
    if wanted == NAIVE:
        return {"way": NAIVE, "way_reason": "naive: as asked for"}
    ways = _WAYS if wanted == AUTO else (wanted,)
    parted = ""
    if wanted == AUTO and not check.shares:
        parted = "prompts part before the image ends, so they share "
        if not asker.passes.sees_apart:
            return {"way": NAIVE, "way_reason": f"naive: {parted}nothing"}
        ways, parted = (DEDUPLICATED,), f"{parted}what is seen in it and no more"
    record: dict[str, Any] = {}
    rejected: list[str] = [parted] if parted else []
    for way in ways:
        try:
            difference = check.differ(way)
        except _FAILURES as error:
            if is_out_of_memory(error):
                raise
            record[f"failure_{way}"] = f"{type(error).__name__}: {error}"[:300]
            rejected.append(f"{way} does not run")
            continue
        record[f"difference_{way}"] = difference
        if difference <= check.limit:
            asker.way = way
            reason = f"{way}: logits of all layers {difference:.0e} off those of single prompts"
            return record | {"way": way, "way_reason": "; ".join([reason, *rejected])}
        rejected.append(f"{way} is {difference:.0e} off")
    if wanted != AUTO:
        raise InputError(
            f"{asker.name} cannot be asked in the way {wanted}: {'; '.join(rejected)}. Leave the way to the self-test."
        )
    asker.way = NAIVE
    return record | {"way": NAIVE, "way_reason": "; ".join(["naive: no other way is exact", *rejected])}


def check_going_on(asker: Asker, check: Exactness) -> dict[str, Any]:
    """Let the asker go on from caches, if that gives what the model gives when it goes on by itself."""
    try:
        # Smaller batches may come down to single prompts, which are asked the naive way.
        difference = max(_differ_going_on(asker, check, way) for way in {asker.way: None, NAIVE: None})
    except _FAILURES as error:
        if is_out_of_memory(error):
            raise
        asker.goes_on = False
        return {"goes_on": False, "failure_going_on": f"{type(error).__name__}: {error}"[:300]}
    asker.goes_on = difference <= check.limit
    return {"goes_on": asker.goes_on, "difference_going_on": difference}


def _differ_going_on(asker: Asker, check: Exactness, way: str) -> float:
    worst = 0.0
    for group in check.groups:
        bundles = list(bundle(group, image_token=asker.passes.image_token))
        if way == NAIVE:
            bundles = [Bundle((entry,), 0) for entry in group]
        prompts = [entry for entries, _ in bundles for entry in entries]
        # Any tokens will do; these the model knows.
        continued = [(row, tuple(entry.sequences["input_ids"][-2:])) for row, entry in enumerate(prompts)]
        _, trail = asker.passes.start(bundles, way=way, layers=False)
        found = _exact(asker.passes.follow(trail, continued))
        own = torch.stack([_own_steps(asker, check.loaded, prompts[row], tokens) for row, tokens in continued])
        worst = max(worst, relative_size((found - own)[:, None], own[:, None]))
    if not np.isfinite(worst):
        raise InputError("its logits are not finite")
    return worst


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
            step = loaded.model(input_ids=ids, past_key_values=cache, use_cache=True, **repeated)
    return _exact(step.logits[0, -1])


def _plain_logits(asker: Asker, loaded: LoadedModel, entry: Encoded) -> torch.Tensor:
    """Last logits of one prompt, from the model as it is, in float64."""
    inputs: dict[str, Any] = asker.encoder.pad([entry], device=loaded.device, dtype=loaded.model.dtype)
    forget_positions(loaded.model)
    with torch.inference_mode():
        logits: torch.Tensor = loaded.model(**inputs, use_cache=False).logits
    return _exact(logits[0, -1])


def _exact(logits: torch.Tensor) -> torch.Tensor:
    """In float64, on the CPU: not every device has it."""
    return logits.cpu().double()
