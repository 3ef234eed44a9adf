"""Packs several questions about one image into one row that computes the image only once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mfbayes.inference.embedded.family import Prefix
from mfbayes.inference.embedded.segments import Segment


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch of rows and where their answers are.

    Attributes
    ----------
    ids : Tensor of int64, shape (n_rows, length)
        Token ids; padding where the image's tokens go and at the ends.
    positions : Tensor of int64, shape (n_axes, n_rows, length)
    mask : Tensor of bool, shape (n_rows, 1, length, length)
        Which tokens each token sees: the prefix, and what precedes it in its own segment.
    rows, places : Tensor of int64, shape (n_segments,)
        Row and place of the token that predicts a segment's answer; the answer itself comes next.
    answers : Tensor of int64, shape (n_segments,)
        Token ids of the answers.
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor
    rows: Tensor
    places: Tensor
    answers: Tensor


def pack(
    segments: Sequence[Sequence[Segment]],
    *,
    prefix: Prefix,
    shown: Tensor,
    answer_ids: Sequence[int],
    pad_id: int,
) -> Packed:
    """Lay out the segments of each image one after another behind the image.

    Parameters
    ----------
    segments : sequence of sequences of Segment
        The segments of each row.
    prefix : Prefix
        What comes before them.
    shown : Tensor of bool, shape (n_rows, n_image_tokens)
        Image tokens that are not padding.
    answer_ids : sequence of int
        Token ids of the colours.
    pad_id : int
        Token id of padding.
    """
    n_rows, n_image = shown.shape
    image_start, image_stop = len(prefix.before), len(prefix.before) + n_image
    start = image_stop + len(prefix.after)
    length = start + max(sum(len(segment.tokens) + 1 for segment in row) for row in segments)
    ids = torch.full((n_rows, length), pad_id)
    owner = torch.full((n_rows, length), -1)
    positions = torch.zeros(len(prefix.positions), n_rows, length, dtype=torch.int64)
    ids[:, :image_start] = torch.tensor(prefix.before, dtype=torch.int64)
    ids[:, image_stop:start] = torch.tensor(prefix.after, dtype=torch.int64)
    owner[:, :start] = 0
    positions[:, :, :start] = prefix.positions[:, None]
    rows, places, answers = [], [], []
    for row, listed in enumerate(segments):
        place = start
        for number, segment in enumerate(listed, start=1):
            answer = answer_ids[segment.answer]
            stop = place + len(segment.tokens) + 1
            ids[row, place:stop] = torch.tensor([*segment.tokens, answer])
            owner[row, place:stop] = number
            positions[:, row, place:stop] = prefix.next_position + torch.arange(stop - place)
            rows.append(row)
            places.append(stop - 2)
            answers.append(answer)
            place = stop
    visible = torch.ones(n_rows, length, dtype=torch.bool)
    visible[:, image_start:image_stop] = shown
    seen = (owner[:, :, None] == owner[:, None, :]) | (owner[:, None, :] == 0)
    own = torch.eye(length, dtype=torch.bool)  # a row of the mask that is all False would give NaN
    mask = torch.ones(length, length, dtype=torch.bool).tril() & seen & visible[:, None, :] | own
    return Packed(ids, positions, mask[:, None], torch.tensor(rows), torch.tensor(places), torch.tensor(answers))


def pack_texts(segments: Sequence[Segment], *, answer_ids: Sequence[int], pad_id: int) -> Packed:
    """One text-only prompt a row, padded on the right, where a causal decoder never looks."""
    length = max(len(segment.tokens) for segment in segments) + 1
    ids = torch.full((len(segments), length), pad_id)
    answers = [answer_ids[segment.answer] for segment in segments]
    for row, (segment, answer) in enumerate(zip(segments, answers, strict=True)):
        ids[row, : len(segment.tokens) + 1] = torch.tensor([*segment.tokens, answer])
    nothing = torch.empty(0)
    places = torch.tensor([len(segment.tokens) - 1 for segment in segments])
    return Packed(ids, nothing, nothing, torch.arange(len(segments)), places, torch.tensor(answers))
