"""Stages of training as files: each writes one checkpoint into a working folder and is skipped when it is there."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file

from mfbayes.inference.embedded import llava, qwen
from mfbayes.inference.embedded.alignment import align, encode_pool
from mfbayes.inference.embedded.decoder_stage import start_decoder, train_decoder
from mfbayes.inference.embedded.family import Family, Model
from mfbayes.inference.embedded.pool import Pool, load_pool, render_pool
from mfbayes.inference.embedded.recipes import DECODERS, POOLS, VISION
from mfbayes.inference.embedded.vision_stage import train_vision
from mfbayes.storage import replacing

FAMILIES: Final[dict[str, Family]] = {"llava": llava, "qwen": qwen}

logger = logging.getLogger(__name__)


class Workshop:
    """Runs stages, each after the stages it needs.

    Parameters
    ----------
    folder : Path
        Where checkpoints and pools are kept.
    scale : float
        Multiplies all numbers of steps and scenes: 1 is the real recipe, a thousandth a quick trial.
    """

    def __init__(self, folder: Path, *, scale: float = 1.0) -> None:
        self._folder = folder
        self._scale = scale

    def reach(self, name: str) -> Model:
        """Model after a stage, trained now if its checkpoint is not there."""
        if name.endswith("-vision"):
            return self._reach_vision(name.removesuffix("-vision"))
        recipe = DECODERS[name]
        family = FAMILIES[recipe.family]
        tokenizer = family.build_tokenizer()

        def train() -> Model:
            features = pool = None
            if recipe.parent:
                model = self.reach(recipe.parent)
            else:
                model = family.build_model(tokenizer)
                start_decoder(model, seed=recipe.course.seed)
            if recipe.course.n_images:
                pool = self._reach_pool(recipe.family, recipe.pool)
                if recipe.aligned:
                    tower = family.vision_tower(self.reach(f"{recipe.family}-vision"))
                    family.vision_tower(model).load_state_dict(tower.state_dict())
                features = self._reach_features(recipe.family, model, recipe.pool, pool)
                if recipe.aligned:
                    vision = VISION[recipe.family]
                    n_steps = self._scaled(vision.alignment_steps)
                    align(model, family, tokenizer, features, pool, n_steps=n_steps, seed=vision.seed)
            course = replace(recipe.course, n_steps=self._scaled(recipe.course.n_steps))
            train_decoder(model, family, tokenizer, course, features=features, pool=pool)
            return model

        return self._keep(name, recipe.family, train)

    def _reach_vision(self, family_name: str) -> Model:
        family, recipe = FAMILIES[family_name], VISION[family_name]

        def train() -> Model:
            torch.manual_seed(recipe.seed)
            model = family.build_model(family.build_tokenizer())
            pool = self._reach_pool(family_name, "vision")
            n_steps = self._scaled(recipe.n_steps)
            train_vision(model, family, pool, n_steps=n_steps, learning_rate=recipe.learning_rate, seed=recipe.seed)
            return model

        return self._keep(f"{family_name}-vision", family_name, train)

    def _keep(self, name: str, family_name: str, train: Callable[[], Model]) -> Model:
        """Load a stage's checkpoint, or train the stage and write it."""
        path = self._folder / f"{name}.safetensors"
        if path.exists():
            family = FAMILIES[family_name]
            model = family.build_model(family.build_tokenizer())
            model.load_state_dict(load_file(path))
            model.eval()
            return model
        began = time.monotonic()
        model = train()
        with replacing(path) as temporary:
            save_file({key: weight.contiguous() for key, weight in model.state_dict().items()}, temporary)
        logger.info("stage %s finished in %.0f s", name, time.monotonic() - began)
        return model

    def _reach_pool(self, family_name: str, name: str) -> Pool:
        path = self._folder / f"{family_name}-scenes-{name}.npz"
        if not path.exists():
            recipe = POOLS[name]
            wide_rows = FAMILIES[family_name].wide_rows()
            n_scenes = self._scaled(recipe.n_scenes)
            pool = render_pool(n_scenes, seed=recipe.seed, wide_rows=wide_rows, rare_share=recipe.rare_share)
            pool.save(path)
        return load_pool(path)

    def _reach_features(self, family_name: str, model: Model, name: str, pool: Pool) -> torch.Tensor:
        """Image tokens of a pool: the same for all decoders of a family."""
        path = self._folder / f"{family_name}-features-{name}.safetensors"
        if not path.exists():
            features = encode_pool(model, FAMILIES[family_name], pool)
            with replacing(path) as temporary:
                save_file({"features": features}, temporary)
        return load_file(path)["features"]

    def _scaled(self, number: int) -> int:
        return max(2, round(number * self._scale))
