import pytest

from mfbayes.datasets import Dataset
from mfbayes.errors import InputError
from mfbayes.inference.prompts import plan_prompts
from mfbayes.inference.units import Share, divide, parse_share


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "2", "a/b", "", "-1/3", "1/2/3", "1.5/2"])
def test_parts_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"Expected a part such as 2/8.*--shard"):
        parse_share(text)


def test_units_hold_every_prompt_once_and_keep_images_whole(dataset: Dataset) -> None:
    plan = plan_prompts(dataset.manifest)
    units = divide(plan, list(plan.prompts.values()), batch_size=8)
    assert [prompt.key for unit in units for prompt in unit.prompts] == list(plan.prompts)
    homes: dict[str, set[str]] = {}
    for unit in units:
        for prompt in unit.prompts:
            if prompt.pixels:
                homes.setdefault(prompt.pixels, set()).add(unit.key)
    assert len(homes) == 28
    assert all(len(home) == 1 for home in homes.values())


@pytest.mark.parametrize("total", [1, 2, 3, 7])
def test_parts_share_the_units_evenly_whatever_their_order(dataset: Dataset, total: int) -> None:
    plan = plan_prompts(dataset.manifest)
    units = [unit for prompt in plan.prompts.values() for unit in divide(plan, [prompt], batch_size=1)]
    parts = [Share(number, total).of(units) for number in range(1, total + 1)]
    assert sorted(unit.key for part in parts for unit in part) == sorted(unit.key for unit in units)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    backwards = [Share(number, total).of(units[::-1]) for number in range(1, total + 1)]
    assert [{unit.key for unit in part} for part in backwards] == [{unit.key for unit in part} for part in parts]


def test_what_is_answered_leaves_other_units_as_they_are(dataset: Dataset) -> None:
    plan = plan_prompts(dataset.manifest)
    units = divide(plan, list(plan.prompts.values()), batch_size=8)
    answered = {prompt.key for prompt in units[1].prompts[:5]}
    left = [unit.without(answered) for unit in units]
    assert [unit.key for unit in left[:1] + left[2:]] == [unit.key for unit in units[:1] + units[2:]]
    assert left[1].prompts == units[1].prompts[5:]
