"""Training data: images and shards that are read, what is skipped and said, and the batches made of them."""

import hashlib
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from export.metrics import imresize
from training.data import Batches, reduced, validation_set
from training.errors import DataError
from training.images import read_images

from .conftest import Capture, Patch, Runs


def test_lr_is_made_as_the_benchmarks_make_it() -> None:
    hr = np.random.default_rng(1).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    hr[:24] = np.where(hr[:24] < 128, 0, 255)  # overshoots, which saturate after each pass
    for scale in (2, 3, 4):
        lr = reduced(torch.from_numpy(hr).permute(2, 0, 1).float(), scale)
        assert np.array_equal(lr.permute(1, 2, 0).numpy(), imresize(hr, 1 / scale))


def test_batches_stay_what_they_were_and_depend_on_seed_and_step_alone() -> None:
    """A run under way, or the resuming of an old one, sees the batches that it would have seen."""
    rng = np.random.default_rng(0)
    images = {f"{h}.png": rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((60, 70), (45, 90))}

    def digest(seed: int) -> str:
        batches = Batches(images, 2, 16, 4, seed=seed, flat=0.2, device="cpu")
        drawn = [batches.batch(step) for step in reversed(range(20))]
        assert {(b.lr.shape, b.hr.shape) for b in drawn} == {((4, 3, 16, 16), (4, 3, 32, 32))}
        levels = [t.mul(255).round().byte().contiguous().numpy() for b in reversed(drawn) for t in (b.lr, b.hr)]
        return hashlib.sha256(b"".join(level.tobytes() for level in levels)).hexdigest()

    assert digest(5) == "0444ea52636f93b220f08e32a4814fa3398d273eca33fc89fb95d25ed416d89f"
    assert digest(6) != digest(5)


def test_validation_takes_images_from_the_first_to_the_last(tmp_path: Path) -> None:
    for level in range(35):
        Image.new("RGB", (256, 256), (level, 0, 0)).save(tmp_path / f"{level:02}.png")
    levels = [int(hr[0, 0, 0]) for _, hr in validation_set(tmp_path, 2)]
    assert len(levels) == 16 and levels == sorted(set(levels))
    assert (levels[0], levels[-1]) == (0, 34)


def test_shares_weigh_images_by_the_beginning_of_their_name() -> None:
    black, white = np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 255, np.uint8)
    images = {"train_0.tar/text_1.png": white, "photo_1.png": black}

    def whites(shares: dict[str, float]) -> float:
        batches = Batches(images, 2, 16, 50, seed=0, flat=0.0, device="cpu", shares=shares)
        return float(torch.stack([batches.batch(step)[1] for step in range(8)]).mean())

    assert whites({}) == pytest.approx(0.5, abs=0.08)
    assert whites({"text": 0.25}) == pytest.approx(0.2, abs=0.08)
    assert whites({"text": 0.0}) == 0.0
    with pytest.raises(DataError, match="leave no image"):
        whites({"text": 0.0, "photo": 0.0})


def test_flat_and_bilevel_crops(images: Path) -> None:
    """One colour; or black and white in each channel, where two of four pixels are white one way in a crop."""
    pixels, _ = read_images(images, 32)

    def batch(flat: float = 0.0, bilevel: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        return Batches(pixels, 2, 16, 16, seed=0, flat=flat, bilevel=bilevel, device="cpu").batch(0)[:2]

    for part in batch(flat=1.0):
        assert torch.equal(part, part[:, :, :1, :1].expand_as(part))
    lr, hr = batch(bilevel=1.0)
    white = hr.unfold(2, 2, 2).unfold(3, 2, 2).sum((4, 5))  # of four pixels
    assert set(lr.unique().tolist()) == set(hr.unique().tolist()) == {0.0, 1.0}
    assert (lr[white > 2] == 1).all()
    assert (lr[white < 2] == 0).all()
    assert {lr[n][white[n] == 2].unique().numel() for n in range(16)} <= {0, 1}
    assert set(lr[white == 2].tolist()) == {0.0, 1.0}  # and the other in another
    lr, hr = batch(bilevel=0.5)
    some = ((hr == 0) | (hr == 1)).flatten(1).all(1)
    assert 0 < int(some.sum()) < 16
    assert torch.equal(some, ((lr == 0) | (lr == 1)).flatten(1).all(1))


def test_both_stages_take_bilevel_crops(run: Runs, monkeypatch: Patch) -> None:
    seen, crops = [], Batches.crops
    monkeypatch.setattr(Batches, "crops", lambda self: (seen.append(crops(self)), seen[-1])[1])
    stage = {"bilevel": 1.0, "flat": 0.0, "steps": 2}
    run.stages("net", float=stage, qat=stage)
    assert len(seen) == 2 + 2 + 2  # and those of calibration
    assert all(set(part.unique().tolist()) <= {0.0, 1.0} for batch in seen for part in batch)


def test_other_files_are_skipped_with_a_word(images: Path, tmp_path: Path, capsys: Capture) -> None:
    """Broken and small ones, and those of another depth; 16-bit grey is reduced."""
    folder = Path(shutil.copytree(images, tmp_path / "folder"))
    ramp = np.tile(np.arange(0, 65536, 1024, dtype=np.uint16), (64, 1))
    Image.fromarray(ramp).save(folder / "grey.png")
    Image.fromarray(ramp.astype(np.float32)).save(folder / "float.tiff")
    (folder / "damaged.tif").write_bytes((folder / "float.tiff").read_bytes()[:200])
    (folder / "broken.png").write_bytes(b"not an image")
    Image.new("RGB", (8, 8)).save(folder / "small.png")
    pixels, skipped = read_images(folder, 32)
    assert np.array_equal(pixels["grey.png"][0, :, 1], np.round(ramp[0] / 257))
    names = [line.partition(":")[0] for line in skipped]
    assert names == ["broken.png", "damaged.tif", "float.tiff", "small.png"]
    assert "mode F" in skipped[2]
    Runs(tmp_path, folder)("net", "--max-minutes", "0")
    said = capsys.readouterr()
    assert "4 images" in said.out and "4 skipped" in said.out
    assert all(f"skipped {line}" in said.err for line in skipped)


def test_shards_are_read_and_damaged_ones_refused(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    plain, _ = read_images(images, 32)
    for name in ("a", "b"):  # two of one name are both read
        (folder / name).mkdir(parents=True)
        with tarfile.open(folder / name / "train_0.tar", "w") as tar:
            for path in sorted(images.iterdir()):
                tar.add(path, path.name)
            tar.add(__file__, "broken.png")
    pixels, skipped = read_images(folder, 32)
    assert list(pixels) == [f"{shard}/train_0.tar/{name}" for shard in ("a", "b") for name in plain]
    assert all(np.array_equal(a, b) for a, b in zip(pixels.values(), [*plain.values()] * 2, strict=True))
    assert [line.partition(": ")[0] for line in skipped] == [f"{s}/train_0.tar/broken.png" for s in ("a", "b")]
    shard = folder / "b" / "train_0.tar"
    whole = shard.read_bytes()
    with tarfile.open(shard, "w:gz") as tar:
        tar.add(images / "0.png", "0.png")
    for damaged in (b"no tar", whole[: len(whole) // 3], shard.read_bytes()[:-200]):
        shard.write_bytes(damaged)
        with pytest.raises(DataError, match=r"train_0.tar: a damaged shard"):
            read_images(folder, 32)
    with pytest.raises(DataError, match="no such folder"):
        read_images(tmp_path / "nowhere", 32)
