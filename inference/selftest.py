"""Checks a loaded model before it is asked: the lens is true, batches agree, and images matter."""

from typing import Any, Final

import numpy as np
import torch
from PIL import Image

from mfbayes.errors import InputError
from mfbayes.inference.asking import Asker, forget_positions
from mfbayes.inference.encoding import Encoded
from mfbayes.inference.loading import LoadedModel
from mfbayes.inference.prompts import Prompt

_SHORT: Final = "What is it? Please use one word to answer this question."
_LONG: Final = f"The thing is as it is. Another thing is as it was. {_SHORT}"
# Largest difference over the size of the logits: rounding stays far below, a wrong position or mask far above.
_TOLERANCE: Final = {"float32": 1e-3, "bfloat16": 0.15, "float16": 0.03}


def check_model(asker: Asker, loaded: LoadedModel, *, answers: tuple[str, ...], batch_size: int) -> dict[str, float]:
    """Ask two noise images two questions, together and one by one.

    Returns
    -------
    dict
        `lens_error` and `batch_sensitivity`: largest difference of logits between the lens's last layer and
        the model's own, and between padded batches and single prompts.

    Raises
    ------
    InputError
        If logits are not finite, the lens or a batch gives other ones than the model itself, or images do not
        matter.
    """
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)) for _ in range(2)]
    prompts = [Prompt(_LONG, "noise", answers), Prompt(_SHORT, "noise", answers)]
    first, second = (asker.encoder.encode_image(prompts, image) for image in noise)
    batch = [first[0], second[1]]
    together = asker.logits(batch, layers=True)[:, -1].double()
    alone = torch.stack([_plain_logits(asker, loaded, entry) for entry in batch])
    read = torch.cat([asker.logits([entry], layers=True)[:, -1].double() for entry in batch])
    if not bool(torch.isfinite(alone).all()):
        raise InputError(
            f"{asker.name} gives logits that are not finite. Ask it in a wider precision (--dtype float32), or "
            "fetch its weights again."
        )
    scale = float(alone.abs().max())
    errors = {
        "lens_error": float((read - alone).abs().max()),
        "batch_sensitivity": float((together - alone).abs().max()),
    }
    limit = _TOLERANCE[loaded.dtype] * max(scale, 1e-6)
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
    return errors


def _plain_logits(asker: Asker, loaded: LoadedModel, entry: Encoded) -> torch.Tensor:
    """Last logits of one prompt, from the model as it is, in float64."""
    inputs: dict[str, Any] = asker.encoder.pad([entry], device=loaded.device, dtype=loaded.model.dtype)
    forget_positions(loaded.model)
    with torch.inference_mode():
        logits: torch.Tensor = loaded.model(**inputs, use_cache=False).logits
    return logits[0, -1].double()
