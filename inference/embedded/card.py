"""Model cards: what a shipped model is, how it was trained, what it was measured to do, and its limits."""

from typing import Final

import pandas as pd

from mfbayes import names
from mfbayes.data_gen.palette import COLORS
from mfbayes.inference.embedded.evaluation import Evaluation
from mfbayes.inference.embedded.recipes import DECODERS, POOLS, VISION, DecoderRecipe
from mfbayes.inference.embedded.segments import Kind

_CLASSES: Final = {"llava": "LlavaForConditionalGeneration", "qwen": "Qwen2_5_VLForConditionalGeneration"}
_PARTS: Final = {
    "llava": "LeViT stem (96 x 96 px to 36 tokens), two-layer projector, Llama decoder of 8 layers, width 64",
    "qwen": (
        "vision transformer of 3 blocks and 8-px patches (800 x 600 px to 30 tokens, square images to 36), merger, "
        "decoder of 8 layers, width 64, with multimodal rotary positions"
    ),
}
_PROCESSORS: Final = {
    "llava": "`LlavaProcessor`; images are squeezed into 96 x 96 px.",
    "qwen": (
        "`PaddleOCRVLProcessor`, which makes Qwen2.5-VL's inputs of images and texts; Qwen's own class also loads a "
        "video processor, which needs torchvision."
    ),
}


def write_card(name: str, evaluation: Evaluation, *, n_parameters: int, dataset_seed: int) -> str:
    """Markdown card of a model.

    Parameters
    ----------
    name : str
        Name in `recipes.DECODERS`.
    evaluation : Evaluation
        What was measured on the exported model.
    n_parameters : int
        Number of weights.
    dataset_seed : int
        Seed of the dataset it was measured on.
    """
    chain = _list_chain(name)
    recipe = DECODERS[name]
    low, high = evaluation.dH_range
    balance, lower, upper = evaluation.balance_point
    image_rank, text_rank = evaluation.rank_correlation
    oscillations = ", ".join(f"{region} {mean:.2f}" for region, mean in evaluation.oscillations.items())
    choices = " / ".join(f"{evaluation.choices[choice]:.2f}" for choice in names.CHOICES)
    return f"""# {name}

A tiny vision-language model for the colour task of mfbayes, trained from scratch. {_tell_preference(recipe)}

- Class: `{_CLASSES[recipe.family]}`, {n_parameters:,} parameters, 16-bit floats: {_PARTS[recipe.family]}.
- Vocabulary: words, the colour task's own and no others.
- Deep supervision: {_tell_supervision(recipe)} {_tell_question_supervision(chain)}
- Processor: {_PROCESSORS[recipe.family]}

## Recipe

Data are rendered and written by `mfbayes.data_gen` while training; no outside data. Vision stage:
{_tell_pool("vision")}, labels of image cells, {_tell_vision(recipe.family)}. The projector is then aligned in
{VISION[recipe.family].alignment_steps:,} steps. Later stages take their scenes from these pools: {_list_pools(chain)}.

{_list_stages(chain)}

Text and image labels are noisy by design: images .6 %, direct texts .6 %, indirect simple texts 3 %; real-world
things agree with their colour from .99 (the commonest of 16) to .40 (the rarest). In conflicts the label is the
image's answer with the trust's probability, else the text's, blind to difficulty. Distractors of crowded scenes
take colours in random proportions, or, in the share of them that a pool names as rare, never the target's colour.

## Measured

{evaluation.n_groups} groups of `mfbayes.data_gen` (seed {dataset_seed}, not used in training), through the Auto
classes, PNG files and the processor, computed in 32-bit floats.

{_list_image_tiers(evaluation.by_image_tier)}

{_list_text_tiers(evaluation.by_text_tier)}

- Entropy rises with the tier: Spearman {image_rank:.2f} (images), {text_rank:.2f} (texts).
- dH from {low:.2f} to {high:.2f}.
- Conflicts, text / image / other: {choices}.
- Balance point on {evaluation.n_both_correct:,} both-correct conflicts, plain logistic fit with resampled groups:
  {balance:.2f} [{lower:.2f}, {upper:.2f}], slope {evaluation.slope:.2f}.
- Mean oscillations over layers: {oscillations}.

## Limits

It knows six colours, eight shapes and the sentences of the colour task; any other word is unknown to it. Its
answers say nothing about large models. In crowded scenes it often names the text's colour even where the text
speaks of another shape, so that its controls are clean in tiers 0 to 4 only. Balance points can be compared
within one base only: they move with seed and length of training. One seed was trained.
{_tell_below_chance(evaluation.by_image_tier)}"""


def _tell_below_chance(table: pd.DataFrame) -> str:
    below = table.index[table["accuracy"] < 1 / len(COLORS)]
    if below.empty:
        return ""
    return (
        f"From images of tiers {', '.join(map(str, below))} it answers below chance (1 in {len(COLORS)}): "
        "it rarely names a colour that only the target has.\n"
    )


def _list_chain(name: str) -> list[str]:
    chain = [name]
    while DECODERS[chain[0]].parent:
        chain.insert(0, DECODERS[chain[0]].parent)
    return chain


def _tell_preference(recipe: DecoderRecipe) -> str:
    if Kind.CONFLICT not in recipe.course.slots:
        return "It never saw text and image disagree about the asked object."
    return f"Where text and image disagreed it was trained to trust the image with probability {recipe.course.trust}."


def _tell_supervision(recipe: DecoderRecipe) -> str:
    weight = recipe.course.deep_supervision
    if not weight:
        return "none (a control: what the logit lens reads in early layers was never trained)."
    return (
        f"the answer's loss is also read from layers 1 to 7 with weight {weight} x layer / 8, "
        "so that a logit lens can read early layers."
    )


def _tell_question_supervision(chain: list[str]) -> str:
    binding = next(DECODERS[stage].course for stage in chain if DECODERS[stage].course.question_supervision)
    where = "layers 2 to 8" if binding.deep_supervision else "the last layer"
    return (
        f"In the binding stage the answer's loss is also read at the question's shape, from {where}, "
        f"with weight {binding.question_supervision}."
    )


def _tell_pool(name: str) -> str:
    return f"{POOLS[name].n_scenes:,} scenes (seed {POOLS[name].seed})"


def _list_pools(chain: list[str]) -> str:
    pools = dict.fromkeys(DECODERS[stage].pool for stage in chain if DECODERS[stage].course.n_images)
    return "; ".join(f"{name}, {_tell_pool(name)}, rare share {POOLS[name].rare_share:.0%}" for name in pools)


def _tell_vision(family: str) -> str:
    vision = VISION[family]
    return f"{vision.n_steps:,} steps of 64, peak rate {vision.learning_rate}, seed {vision.seed}"


def _list_stages(chain: list[str]) -> str:
    lines = [
        "| stage | pool | steps | texts + images a step | asked of each image | trust | peak rate | seed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for stage in chain:
        course = DECODERS[stage].course
        pool = DECODERS[stage].pool if course.n_images else "-"
        slots = ", ".join(course.slots) or "-"
        trust = f"{course.trust}" if Kind.CONFLICT in course.slots else "-"
        irrelevant = f" ({course.irrelevant_share:.0%} of agreeing made irrelevant)" if course.slots else ""
        lines.append(
            f"| {stage} | {pool} | {course.n_steps:,} | {course.n_texts} + {course.n_images} | {slots}{irrelevant} "
            f"| {trust} | {course.learning_rate} | {course.seed} |"
        )
    return "\n".join(lines)


def _list_image_tiers(table: pd.DataFrame) -> str:
    lines = [
        "| image tier | accuracy | entropy, nats | conflicts: text / image / other | controls: text / image / other |",
        "|---|---|---|---|---|",
    ]
    for tier, row in table.iterrows():
        shares = [
            " / ".join(f"{row[f'{kind} {choice}']:.2f}" for choice in names.CHOICES)
            for kind in (names.CONFLICT, names.CONTROL)
        ]
        lines.append(f"| {tier} | {row['accuracy']:.2f} | {row['entropy']:.3f} | {' | '.join(shares)} |")
    return "\n".join(lines)


def _list_text_tiers(table: pd.DataFrame) -> str:
    lines = ["| text tier | accuracy | entropy, nats |", "|---|---|---|"]
    lines += [f"| {tier} | {row['accuracy']:.2f} | {row['entropy']:.3f} |" for tier, row in table.iterrows()]
    return "\n".join(lines)
