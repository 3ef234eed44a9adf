"""Dataset folders: reproducible on any number of workers, resumable, checked when read."""

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from mfbayes.data_gen.generation import generate
from mfbayes.datasets import Dataset, read_dataset
from mfbayes.errors import InputError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return generate(tmp_path_factory.mktemp("data") / "two", n_groups=2, seed=4, workers=1)


def _copy(dataset: Dataset, to: Path) -> Path:
    import shutil

    return Path(shutil.copytree(dataset.path, to))


def test_workers_do_not_change_pixels(dataset: Dataset, tmp_path: Path) -> None:
    other = generate(tmp_path / "parallel", n_groups=2, seed=4, workers=2)
    pd.testing.assert_frame_equal(other.manifest, dataset.manifest)
    assert other.content_hash == dataset.content_hash
    for name in dataset.manifest.image.unique():
        assert other.image_path(name).read_bytes() == dataset.image_path(name).read_bytes()


def test_another_seed_changes_pixels(dataset: Dataset, tmp_path: Path) -> None:
    other = generate(tmp_path / "other", n_groups=1, seed=5, workers=1)
    mine = dataset.manifest[dataset.manifest.group == "g0000"].pixels_sha256
    assert not set(mine) & set(other.manifest.pixels_sha256)


def test_uniform_size(tmp_path: Path) -> None:
    data = generate(tmp_path / "uniform", n_groups=1, seed=0, uniform_size=True, workers=1)
    assert set(zip(data.manifest.width, data.manifest.height, strict=True)) == {(448, 448)}
    with Image.open(data.image_path(data.manifest.image[0])) as image:
        assert image.size == (448, 448)


def test_interrupted_generation_keeps_what_is_finished(dataset: Dataset, tmp_path: Path) -> None:
    folder = _copy(dataset, tmp_path / "interrupted")
    names = list(dataset.manifest.image.unique())
    (folder / "manifest.parquet").unlink()
    (folder / names[3]).unlink()
    (folder / names[4]).write_bytes((folder / names[4]).read_bytes()[:500])
    kept = (folder / names[5]).stat().st_mtime_ns
    again = generate(folder, n_groups=2, seed=4, workers=1)
    pd.testing.assert_frame_equal(again.manifest, dataset.manifest)
    assert (folder / names[5]).stat().st_mtime_ns == kept
    read_dataset(folder)


def test_an_altered_leftover_is_drawn_again(dataset: Dataset, tmp_path: Path) -> None:
    folder = _copy(dataset, tmp_path / "altered")
    names = list(dataset.manifest.image.unique())
    (folder / "manifest.parquet").unlink()
    # The right size and the wrong pixels, carrying the notes of the right ones.
    with Image.open(folder / names[5]) as image:
        from PIL.PngImagePlugin import PngInfo

        notes = PngInfo()
        for key, value in image.info.items():
            notes.add_text(str(key), str(value))
        Image.new("RGB", image.size, "red").save(folder / names[5], pnginfo=notes)
    again = generate(folder, n_groups=2, seed=4, workers=1)
    pd.testing.assert_frame_equal(again.manifest, dataset.manifest)


def test_another_dataset_is_never_overwritten_unasked(dataset: Dataset, tmp_path: Path) -> None:
    folder = _copy(dataset, tmp_path / "kept")
    with pytest.raises(InputError, match=r"seed 4 there, 5 asked"):
        generate(folder, n_groups=2, seed=5, workers=1)
    assert read_dataset(folder).content_hash == dataset.content_hash
    replaced = generate(folder, n_groups=1, seed=5, workers=1, overwrite=True)
    assert len(list((folder / "images").iterdir())) == 14
    assert set(replaced.manifest.group) == {"g0000"}


def test_a_damaged_dataset_is_repaired_by_the_same_command(dataset: Dataset, tmp_path: Path) -> None:
    folder = _copy(dataset, tmp_path / "repaired")
    names = list(dataset.manifest.image.unique())
    (folder / names[0]).unlink()
    (folder / names[1]).write_bytes(b"not an image")
    again = generate(folder, n_groups=2, seed=4, workers=1)
    pd.testing.assert_frame_equal(again.manifest, dataset.manifest)
    read_dataset(folder)


@pytest.mark.parametrize(("n_groups", "seed"), [(0, 0), (10_001, 0), (1, -1)])
def test_numbers_out_of_range_are_refused(tmp_path: Path, n_groups: int, seed: int) -> None:
    with pytest.raises(InputError, match="Expected"):
        generate(tmp_path / "none", n_groups=n_groups, seed=seed)
    assert not (tmp_path / "none").exists()


def test_missing_and_altered_images_are_named(dataset: Dataset, tmp_path: Path) -> None:
    folder = _copy(dataset, tmp_path / "damaged")
    name = dataset.manifest.image.iloc[-1]
    with Image.open(folder / name) as image:
        image.load()
        image.putpixel((0, 0), (1, 2, 3))
        image.save(folder / name)
    with pytest.raises(InputError, match=f"{name}.*altered"):
        read_dataset(folder)
    (folder / name).write_bytes(b"not an image")
    with pytest.raises(InputError, match="cannot be decoded"):
        read_dataset(folder)
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name}.*missing"):
        read_dataset(folder)


def test_damaged_manifests_are_told(dataset: Dataset, tmp_path: Path) -> None:
    folder = _copy(dataset, tmp_path / "manifest")
    file = folder / "manifest.parquet"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(InputError, match="parquet"):
        read_dataset(folder)
    dataset.manifest.drop(columns="question").to_parquet(file)
    with pytest.raises(InputError, match="lacks question"):
        read_dataset(folder)
    dataset.manifest.assign(image="../outside.png").to_parquet(file)
    with pytest.raises(InputError, match="outside its folder"):
        read_dataset(folder)
    with pytest.raises(InputError, match="has no manifest"):
        read_dataset(tmp_path)
