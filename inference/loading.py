"""Loads a model and its processor through the Auto classes, safetensors only."""

from dataclasses import dataclass
from typing import Any, Final

import torch
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from mfbayes.errors import InputError
from mfbayes.inference.memory import check_memory, is_out_of_memory
from mfbayes.inference.sources import ModelFolder, ModelSource, read_config
from mfbayes.names import AUTO

# Handing such a model's work to several threads takes longer than the work itself.
_TINY: Final = 10_000_000
DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to be asked.

    Attributes
    ----------
    model : torch.nn.Module
        In evaluation mode, on `device`.
    processor
        Its processor, with a tokenizer, an image processor and a chat template.
    device : torch.device
    dtype : str
        Precision of the weights, such as "float32".
    """

    model: Any
    processor: Any
    device: torch.device
    dtype: str


def load_model(
    source: ModelSource, *, device: str = AUTO, dtype: str = AUTO, trust_remote_code: bool = False
) -> LoadedModel:
    """Load a model for asking.

    Parameters
    ----------
    source : ModelSource
        Where its files are.
    device : str
        "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps".
    dtype : str
        "auto" (float32 on a CPU, elsewhere the checkpoint's own), "float32", "bfloat16" or "float16".
    trust_remote_code : bool
        Let code run that the model's folder brings along.

    Raises
    ------
    InputError
        If the device or precision does not exist, or the model takes no images, needs code of its own, does not
        fit into memory, has no chat template or cannot be read.
    """
    place = choose_device(device)
    precision = choose_dtype(dtype, place, source)
    check_architecture(source, trust_remote_code=trust_remote_code)
    check_memory(source, device=place, dtype=precision)
    processor = _load_processor(source, trust_remote_code=trust_remote_code)
    try:
        model: Any = AutoModelForImageTextToText.from_pretrained(
            source.folder,
            dtype=DTYPES[precision],
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            local_files_only=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise
        raise InputError(f"{source.name} cannot be loaded: {error}. Fetch or save it again.") from error
    model = model.to(place).eval()
    if precision != "float32":
        _widen_head(model)
    if place.type == "cpu" and model.num_parameters() < _TINY:
        torch.set_num_threads(1)
    return LoadedModel(model, processor, place, precision)


def check_before_reading(place: ModelFolder, *, device: str, dtype: str, trust_remote_code: bool) -> None:
    """Refuse a model that cannot be loaded here, before its files are hashed.

    Raises
    ------
    InputError
        As `load_model` does for device, precision, architecture and memory.
    """
    found = choose_device(device)
    check_architecture(place, trust_remote_code=trust_remote_code)
    check_memory(place, device=found, dtype=choose_dtype(dtype, found, place))


def choose_device(device: str) -> torch.device:
    """The device asked for, if it is there."""
    if device == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"There is no device {device!r}. Use auto, cpu, cuda or mps.") from error
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(place.type, False):
        raise InputError(f"This machine has no {place.type} device that torch can use. Pass --device cpu.")
    if place.type == "cuda" and place.index is not None and place.index >= torch.cuda.device_count():
        raise InputError(f"There is no device {device!r}: this machine has {torch.cuda.device_count()} GPU(s).")
    return place


def choose_dtype(dtype: str, device: torch.device, source: ModelSource | ModelFolder) -> str:
    """Precision to load in: half precisions are slow on CPUs and blur small entropies, so a CPU gets float32."""
    if dtype != AUTO:
        if dtype not in DTYPES:
            raise InputError(f"There is no dtype {dtype!r}. Use auto, {', '.join(DTYPES)}.")
        return dtype
    if device.type == "cpu":
        return "float32"
    config = read_config(source.folder)
    # Models made of a tower and a decoder may say it of the decoder alone.
    parts = [config, *(config[name] for name in ("text_config", "llm_config") if isinstance(config.get(name), dict))]
    told = (part.get(key) for part in parts for key in ("dtype", "torch_dtype"))
    return next((str(name) for name in told if name in DTYPES), "float32")


def check_architecture(source: ModelSource | ModelFolder, *, trust_remote_code: bool) -> None:
    """Refuse a model that takes no images, before its weights are read."""
    config = read_config(source.folder)
    kind = config.get("model_type", "")
    if kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return
    if config.get("auto_map"):
        if trust_remote_code:
            return
        raise InputError(
            f"{source.name} brings its own code, which is not run unasked. Read it, then pass --trust-remote-code."
        )
    architecture = ", ".join(config.get("architectures") or [kind or "unknown"])
    raise InputError(
        f"{source.name} is not a model that answers questions about images ({architecture}). Choose one that "
        "transformers' AutoModelForImageTextToText loads, such as a LLaVA or a Qwen-VL."
    )


def _load_processor(source: ModelSource, *, trust_remote_code: bool) -> Any:
    try:
        processor = AutoProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            source.folder, trust_remote_code=trust_remote_code, local_files_only=True
        )
    except ImportError as error:
        raise InputError(f"The processor of {source.name} needs a package that is not installed: {error}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"The processor of {source.name} cannot be loaded: {error}. Copy its processor and tokenizer files too."
        ) from error
    if getattr(processor, "tokenizer", None) is None or getattr(processor, "image_processor", None) is None:
        raise InputError(
            f"{source.name} has no processor of both texts and images (found {type(processor).__name__}). "
            "Copy its processor and tokenizer files too."
        )
    if not (getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None)):
        raise InputError(
            f"{source.name} has no chat template, so it is unknown how it wants to be asked. "
            "Use an instruction-tuned model, or add a chat_template.jinja to its folder."
        )
    return processor


def _widen_head(model: Any) -> None:
    """Give the output head float32 weights of its own: entropies suffer most from what it rounds."""
    head = model.get_output_embeddings()
    for name, weights in list(head.named_parameters(recurse=False)):
        setattr(head, name, torch.nn.Parameter(weights.detach().float(), requires_grad=False))
    head.register_forward_pre_hook(lambda module, args: (args[0].float(), *args[1:]))


def silence_libraries() -> None:
    """Keep notices of the libraries off the user's screen; errors still raise."""
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
