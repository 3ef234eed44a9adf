"""Exports a trained model as a folder that the Auto classes of transformers load."""

from pathlib import Path
from typing import Final

import torch

from mfbayes.inference.embedded.family import Family, Model

# Room for one word and the end token; a model that did not stop by then shows it.
_MAX_NEW_TOKENS: Final = 4


def export_model(model: Model, family: Family, folder: Path, *, dtype: torch.dtype = torch.float16) -> None:
    """Write weights, configuration, generation configuration and processor.

    Parameters
    ----------
    model, family
        What to export; the model keeps its own precision.
    folder : Path
        Where to; made if absent.
    dtype : torch.dtype
        Precision of the written weights.
    """
    tokenizer = family.build_tokenizer()
    exported = family.build_model(tokenizer)
    exported.load_state_dict(model.state_dict())
    settings = exported.generation_config
    settings.max_new_tokens = _MAX_NEW_TOKENS
    settings.do_sample = False
    settings.bos_token_id = tokenizer.bos_token_id
    settings.eos_token_id = tokenizer.eos_token_id
    settings.pad_token_id = tokenizer.pad_token_id
    exported.eval().to(dtype).save_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)  # they are written for their owner alone
    family.build_processor(tokenizer).save_pretrained(folder)
