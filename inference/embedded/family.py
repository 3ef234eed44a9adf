"""What training needs to know of a model family, beyond what every transformers model offers."""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

# The classes of transformers are only partly typed.
type Tokenizer = Any
type Model = Any
type Processor = Any


@dataclass(frozen=True, slots=True)
class Prefix:
    """Tokens that come before a question about an image, the same for every question.

    Attributes
    ----------
    before, after : list of int
        Token ids left and right of the image's tokens.
    positions : Tensor of int64, shape (n_axes, n_tokens)
        Positions of all tokens of the prefix, those of the image included.
    next_position : int
        Position of the first token after the prefix.
    """

    before: list[int]
    after: list[int]
    positions: Tensor
    next_position: int


class Family(Protocol):
    """A module of functions for one family of models."""

    def wide_rows(self) -> int:
        """Rows of image tokens that the processor makes of an 800 x 600 px image."""

    def build_tokenizer(self) -> Tokenizer:
        """Tokenizer with the family's special tokens and chat template."""

    def build_model(self, tokenizer: Tokenizer) -> Model:
        """Untrained model."""

    def build_processor(self, tokenizer: Tokenizer) -> Processor:
        """Processor that turns messages and images into the model's inputs."""

    def build_heads(self, n_labels: int) -> nn.ModuleDict:
        """Heads that name what image cells show, used in the vision stage only."""

    def score_cells(self, model: Model, heads: nn.ModuleDict, pixels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        """Logits (n, cells, n_labels) of "coarse" and perhaps "fine" cells, row by row."""

    def encode(self, model: Model, pixels: Tensor, rows: Tensor) -> Tensor:
        """Image tokens (n, 36, width) before the projector.

        `pixels` are in [-1, 1], shape (n, 3, 96, 96); only the first `rows` (n,) rows of cells are the image.
        """

    def vision_tower(self, model: Model) -> nn.Module:
        """All of the vision tower; it may hold the projector."""

    def projector(self, model: Model) -> tuple[nn.Linear, nn.Module, nn.Linear]:
        """First layer, activation and last layer between image tokens and the decoder."""

    def vision_parameters(self, model: Model) -> list[nn.Parameter]:
        """Weights that the vision stage trains; all later stages leave them alone."""

    def lay_prefix(self, tokenizer: Tokenizer) -> Prefix:
        """Prefix of every prompt with an image."""
