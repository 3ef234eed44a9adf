import sys
from pathlib import Path

import pytest

from mfbayes.datasets import Dataset
from mfbayes.errors import InputError
from mfbayes.inference.collection import collect
from mfbayes.inference.engines import Here, open_engine


def test_unknown_engine_is_refused_before_anything_is_asked(tmp_path: Path, dataset: Dataset) -> None:
    with pytest.raises(InputError, match=r"no engine 'dask'\. Use here or ray"):
        collect(dataset, "llava-r50", out=tmp_path, engine="dask")
    assert not list(tmp_path.iterdir())


def test_missing_ray_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'mfbayes\[ray\]'"):
        open_engine("ray")
    assert isinstance(open_engine("here"), Here)


def test_options_of_a_cluster_need_one() -> None:
    with pytest.raises(InputError, match="Add --engine ray"):
        open_engine("here", address="auto")
    with pytest.raises(InputError, match="Add --engine ray"):
        open_engine("here", workers=2)
    with pytest.raises(InputError, match="at least 1 worker, but 0 came"):
        open_engine("ray", workers=0)
