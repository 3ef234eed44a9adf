"""Word-level tokenizer of the embedded models: one token for every word of the colour task."""

from collections.abc import Mapping
from typing import Final

from tokenizers import Tokenizer as WordTokenizer
from tokenizers import models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from mfbayes.data_gen.palette import COLORS
from mfbayes.data_gen.shapes import SHAPES
from mfbayes.data_gen.texts import words
from mfbayes.inference.embedded.family import Tokenizer

PAD: Final = "<pad>"
BOS: Final = "<s>"
EOS: Final = "</s>"
UNKNOWN: Final = "<unk>"
_ROLES: Final = ("USER", "ASSISTANT", ":")


def build_tokenizer(*, extra: Mapping[str, str], chat_template: str) -> Tokenizer:
    """Tokenizer that splits at white space and punctuation and knows the colour task's words.

    Parameters
    ----------
    extra : mapping of str to str
        Further special tokens of a model family, such as {"image_token": "<image>"}.
    chat_template : str
        Jinja template that turns messages into a prompt.
    """
    listed = [PAD, BOS, EOS, UNKNOWN, *extra.values(), *_ROLES, *COLORS, *SHAPES, *words()]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(listed))}
    tokenizer = WordTokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, vocabulary[BOS])]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        extra_special_tokens=dict(extra),
        padding_side="left",
        chat_template=chat_template,
    )
