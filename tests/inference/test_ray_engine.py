"""The same shards on a local cluster of two nodes; where Ray is missing, nothing here runs."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mfbayes.datasets import Dataset
from mfbayes.inference.collection import collect
from mfbayes.storage import hash_file

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

# A process of its own: Ray's threads, warnings and signal handlers would stay in this one.
SCRIPT = """
import os, sys
from pathlib import Path
from ray.cluster_utils import Cluster
from mfbayes.errors import InputError
from mfbayes.inference import ray_engine
from mfbayes.inference.collection import collect

if __name__ == "__main__":
    data, model, out, dying = sys.argv[1:]
    os.environ["MFBAYES_TEST_DYING"] = dying
    options = {"num_cpus": 1, "object_store_memory": 200 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**options, "include_dashboard": False})
    cluster.add_node(**options)

    class Dying(ray_engine.RemoteWorker):
        def answer(self, unit):
            marks = Path(os.environ["MFBAYES_TEST_DYING"])
            if marks.is_dir() and len(list(marks.iterdir())) < int(marks.name):
                (marks / str(os.getpid())).touch()
                os._exit(1)
            return super().answer(unit)

    ray_engine.RemoteWorker = Dying
    try:
        collect(Path(data), model, out=Path(out), batch_size=4, engine="ray", address=cluster.address, progress=False)
    except InputError as error:
        sys.exit(f"refused: {error}")
    finally:
        cluster.shutdown()
"""


def run(dataset: Dataset, model: Path, out: Path, dying: Path) -> subprocess.CompletedProcess[str]:
    # Starting processes takes longest of all on a busy machine.
    patience = {"RAY_agent_register_timeout_ms": "200000", "RAY_raylet_start_wait_time_s": "240"}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(dataset.path), str(model), str(out), str(dying)],
        env={**os.environ, **patience, "PYTHONPATH": os.pathsep.join(sys.path), "MFBAYES_TEST_DYING": str(dying)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, model_folders: dict[str, Path]) -> Path:
    return collect(dataset, str(model_folders["llava"]), out=tmp_path_factory.mktemp("here"), batch_size=4)


@pytest.mark.parametrize("deaths", [0, 2])
def test_cluster_gives_the_same_files_though_workers_die(
    deaths: int, tmp_path: Path, dataset: Dataset, model_folders: dict[str, Path], undisturbed: Path
) -> None:
    (tmp_path / str(deaths)).mkdir()
    done = run(dataset, model_folders["llava"], tmp_path / "out", tmp_path / str(deaths))
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / str(deaths)).iterdir())) == deaths
    folder = tmp_path / "out" / "collected" / undisturbed.name
    for name in ("trials.parquet", "traces.nc"):
        assert hash_file(folder / name) == hash_file(undisturbed / name)


def test_workers_that_die_again_and_again_are_an_error(
    tmp_path: Path, dataset: Dataset, model_folders: dict[str, Path]
) -> None:
    (tmp_path / "1000").mkdir()
    done = run(dataset, model_folders["llava"], tmp_path / "out", tmp_path / "1000")
    assert "refused: 3 Ray workers died while asking about" in done.stderr


def test_error_of_a_worker_keeps_its_words(tmp_path: Path, dataset: Dataset, model_folders: dict[str, Path]) -> None:
    folder = Path(shutil.copytree(model_folders["llava"], tmp_path / "other"))
    # Only reading the weights tells that they are of another size.
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["text_config"]["intermediate_size"] *= 2
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    done = run(dataset, folder, tmp_path / "out", tmp_path / "none")
    assert re.search(r"refused: other@\w+ cannot be loaded: .*Fetch or save it again", done.stderr)
