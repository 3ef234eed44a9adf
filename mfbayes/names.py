"""Names that files share: columns, dims, values and file names, spelt once."""

from typing import Final

MODEL: Final = "model"
TASK: Final = "task"
GROUP: Final = "group"
ITEM: Final = "item"
KIND: Final = "kind"
D_TEXT: Final = "d_text"
D_IMAGE: Final = "d_image"
H_TEXT: Final = "H_text"
H_IMAGE: Final = "H_image"
DH: Final = "dH"
CHOICE: Final = "choice"
TEXT_CORRECT: Final = "text_correct"
IMAGE_CORRECT: Final = "image_correct"
CONDITION: Final = "condition"
FAMILY: Final = "family"

TEXT: Final = "text"
IMAGE: Final = "image"
OTHER: Final = "other"
CHOICES: Final = (TEXT, IMAGE, OTHER)

CONFLICT: Final = "conflict"
CONTROL: Final = "control"
KINDS: Final = (CONFLICT, CONTROL)

BOTH_CORRECT: Final = "both-correct"
ALL: Final = "all"
SUBSETS: Final = (BOTH_CORRECT, ALL)

LOGIT_NOISE: Final = "logit_noise"
NEAR_TIE: Final = "near_tie"

ENTROPY: Final = "entropy"
MARGIN: Final = "margin"
MAX_PROBABILITY: Final = "max-probability"
NLL: Final = "nll"
INDICES: Final = (ENTROPY, MARGIN, MAX_PROBABILITY, NLL)
MARGIN_UNCERTAINTY_TEXT: Final = "margin_uncertainty_text"
MARGIN_UNCERTAINTY_IMAGE: Final = "margin_uncertainty_image"
LEAST_CONFIDENCE_TEXT: Final = "least_confidence_text"
LEAST_CONFIDENCE_IMAGE: Final = "least_confidence_image"
NLL_TEXT: Final = "nll_text"
NLL_IMAGE: Final = "nll_image"
UNIMODAL_PROBABILITIES: Final = (
    "p_text_text_only",
    "p_text_image_only",
    "p_image_text_only",
    "p_image_image_only",
)
"""Probability of the designed text (image) answer given the text (image) alone."""

NUTS: Final = "nuts"
FAST: Final = "fast"
REFERENCE: Final = "reference"
METHODS: Final = (NUTS, FAST, REFERENCE)

SUBJECT: Final = "subject"
POOLED: Final = "all"
"""The subject that stands for all together."""
ANALYSIS: Final = "analysis"
LAYER: Final = "layer"
STATE: Final = "state"
LOGIT_DIFFERENCE: Final = "logit_difference"
STATE_CODES: Final = {TEXT: 1, IMAGE: 0, OTHER: -1}

DEFAULT_TASK: Final = "task"
AUTO: Final = "auto"

MANIFEST_FILE: Final = "manifest.parquet"
TRIALS_FILE: Final = "trials.parquet"
TRACES_FILE: Final = "traces.nc"
FIT_FILE: Final = "fit.nc"
BALANCE_POINTS_FILE: Final = "balance_points.csv"
REPORT_FILE: Final = "report.html"
RUN_FILE: Final = "run.json"
DATA_FOLDER: Final = "data"
COLLECTED_FOLDER: Final = "collected"
ESTIMATES_FOLDER: Final = "estimates"
