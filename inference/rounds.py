"""Rounds of asking: what is left of a plan goes to an engine, what comes back is kept at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from mfbayes.errors import TooLargeError
from mfbayes.inference.audit import WIDE, choose_items, measure_errors, sample_prompts
from mfbayes.inference.engines import Engine
from mfbayes.inference.jobs import Job
from mfbayes.inference.prompts import Prompt
from mfbayes.inference.shards import Answers, answers_folder, open_answers, read_shards, save_shard, sweep
from mfbayes.inference.units import WHOLE, Share, divide

_PRECISIONS: Final = ("float32", "bfloat16", "float16")

type Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One model's job, and where its answers go.

    Attributes
    ----------
    job : Job
    folder : Path
        The model's folder.
    engine : Engine
    share : Share
        The part of the units that is asked here.
    say : callable
        Told one line about what is out of the ordinary.
    on_progress : callable
        Told a label, how many prompts of it are answered, and of how many.
    """

    job: Job
    folder: Path
    engine: Engine
    share: Share
    say: Say
    on_progress: Callable[[str, int, int], None]

    def answer(self, prompts: Sequence[Prompt], *, label: str = "asking") -> tuple[Answers, int]:
        """Answers to prompts, old and new, as far as this part goes; and how many are new."""
        wanted = {prompt.key for prompt in prompts}
        store = open_answers(self.folder, self.job.content)
        held = read_shards(store, wanted, on_damage=self.say)
        mine = self.share.of(divide(self.job.plan, prompts, batch_size=self.job.batch_size))
        left = [unit for unit in (unit.without(held.responses) for unit in mine) if unit.prompts]
        n_left, n_done = sum(len(unit.prompts) for unit in left), 0
        self.on_progress(label, n_done, n_left)
        for shard in self.engine.answer(self.job, left):
            save_shard(store, shard)
            n_done += len(shard.responses)
            self.on_progress(label, n_done, n_left)
        sweep(store)
        # As they lie there: the same whether asked now or before, here or by other parts.
        return (read_shards(store, wanted, on_damage=self.say) if left else held), n_done

    def audit(self, held: Answers) -> dict[str, Any] | None:
        """Errors of a narrow precision, from a sample asked again in float32.

        None where nothing is narrow, or where other parts have yet to be asked. A machine that cannot hold the
        model in float32 gives `{"skipped": reason}` and says so.
        """
        if self.job.dtype == WIDE:
            return None
        finished = len(held.responses) == len(self.job.plan.prompts)
        items = choose_items(self.job.plan)
        sample = sample_prompts(self.job.plan, items)
        again = replace(self, job=replace(self.job, dtype=WIDE), share=WHOLE if finished else self.share)
        try:
            wide, _ = again.answer(sample, label="auditing")
        except TooLargeError as error:
            self.say(f"{self.job.source.name}: errors of {self.job.dtype} are not measured. {error}")
            return {"skipped": str(error)}
        if not finished:
            return None
        return measure_errors(items, held.responses, wide.responses, dtype=self.job.dtype)


def precision_begun(job: Job, folder: Path, *, say: Say) -> str:
    """Precision in which most of a job's prompts are answered already; the job's own if none are."""
    jobs = [replace(job, dtype=dtype) for dtype in dict.fromkeys([job.dtype, *_PRECISIONS])]
    counts = [len(read_shards(answers_folder(folder, other.content), job.plan.prompts).responses) for other in jobs]
    most = max(range(len(jobs)), key=lambda index: counts[index])
    if most:
        say(f"{job.source.name}: going on in {jobs[most].dtype}, in which {counts[most]} prompts are answered.")
    return jobs[most].dtype
