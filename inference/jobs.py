"""What a worker needs to know, wherever it works."""

from dataclasses import dataclass
from typing import Any

from mfbayes.datasets import Dataset
from mfbayes.inference.prompts import Plan
from mfbayes.inference.sources import ModelSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A model and what to ask it.

    Attributes
    ----------
    source : ModelSource
    plan : Plan
    dataset : Dataset
        Its folder must be visible where the worker is.
    protocol : int
        Version of how models are asked and read.
    device : str
        "auto", "cpu", "cuda" or "mps".
    dtype : str
        "float32", "bfloat16" or "float16".
    batch_size : int
        Prompts a forward pass.
    trust_remote_code : bool
        Let code run that the model's folder brings along.
    """

    source: ModelSource
    plan: Plan
    dataset: Dataset
    protocol: int
    device: str
    dtype: str
    batch_size: int
    trust_remote_code: bool

    @property
    def content(self) -> dict[str, Any]:
        """All that decides an answer, but the prompt."""
        return {
            "protocol": self.protocol,
            "model": self.source.content_hash,
            "dtype": self.dtype,
            "answers": list(self.plan.answers),
        }
