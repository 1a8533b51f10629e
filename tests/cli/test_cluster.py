"""Segments made by other processes: the same bytes, whatever becomes of the processes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

import vsaether
from vsaether.errors import MediaError
from vsaether.media import work
from vsaether.media.cuts import Cutter
from vsaether.media.identity import description
from vsaether.media.manifest import JobFolder
from vsaether.media.planning import plans
from vsaether.media.reading import Reader
from vsaether.media.settings import Job
from vsaether.media.source import VideoSource
from vsaether.media.span import Span
from vsaether.media.timing import Timing
from vsaether.media.work import Maker

from ..conftest import MakeEngine
from .conftest import Run, command, make_video, wait_for
from .test_resume import SEGMENTS, packets, scenes

LocalCluster = pytest.importorskip("distributed", reason="dask.distributed is not installed").LocalCluster
cluster = pytest.importorskip("vsaether.media.cluster")
ULTRAFAST = {"preset": "ultrafast"}


class Cluster:
    """A scheduler and workers, each a process, which can be killed one by one."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "scheduler.json"
        self._file.unlink(missing_ok=True)
        places = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(self._file))
        self.scheduler = self._start("dask_scheduler", *places)
        wait_for(lambda: bool(self.address), self.scheduler)
        self.workers: list[subprocess.Popen] = []

    @property
    def address(self) -> str:
        """The scheduler's; empty as long as it has not written that down."""
        try:
            return json.loads(self._file.read_text())["address"]
        except (OSError, ValueError):
            return ""

    def add(self) -> None:
        """One worker more."""
        options = ("--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--no-dashboard")
        self.workers.append(self._start("dask_worker", self.address, *options))

    def close(self) -> None:
        """Kill all that is left."""
        for process in (self.scheduler, *self.workers):
            process.kill()
            process.wait()

    def _start(self, name: str, *arguments: str) -> subprocess.Popen:
        line = [sys.executable, "-m", f"distributed.cli.{name}", *arguments]
        return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_workers_and_schedulers_are_killed(run: Run, make_engine: MakeEngine, tmp_path: Path) -> None:
    """A worker dies midway, one comes late, the scheduler dies; workers of this machine go on, and nothing is lost."""
    source, out, whole, log = (tmp_path / name for name in ("in.mkv", "out.mkv", "whole.mkv", "log"))
    pts = [40 * i for i in range(105)]
    make_video(source, pts=pts, size=(256, 192), options=ULTRAFAST, picture=scenes, audio="aac")
    engine = str(make_engine(kernels=(5, 5, 3), channels=16))  # some tenths of a second of work for a segment
    folder = JobFolder.of(out)
    with closing(Cluster(tmp_path)) as cluster:
        cluster.add()
        cluster.add()
        arguments = command("upscale", source, out, "--engine", engine, *SEGMENTS, "--scheduler", cluster.address)
        with log.open("w") as stderr, subprocess.Popen(arguments, stderr=stderr) as process:
            wait_for(lambda: len(list(folder.path.glob("*.packets"))) >= 1, process)
            cluster.workers[0].kill()
            cluster.add()
            wait_for(lambda: len(list(folder.path.glob("*.packets"))) >= 3, process)
            cluster.scheduler.kill()
            assert process.wait(180) == 1
    kept = len(list(folder.records()))
    assert 3 <= kept < 7
    assert "the scheduler" in log.read_text()
    assert "segments are kept" in log.read_text()
    result = run.done(source, out, *SEGMENTS, "--workers", "2", engine=engine)
    assert f"{kept} segments of" in result.err
    run.done(source, whole, *SEGMENTS, engine=engine)
    assert packets(out) == packets(whole)
    assert not folder.path.exists()


@pytest.mark.parametrize("failures", [1, 3])
def test_a_task_that_fails_is_tried_again(
    run: Run, identity_engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """Twice: what fails each time ends the film, and what is complete stays."""
    source, out, whole = (tmp_path / name for name in ("in.mkv", "out.mkv", "whole.mkv"))
    make_video(source, pts=[40 * i for i in range(45)], options=ULTRAFAST, picture=scenes)
    make, tried = Maker.make, []

    def failing(self: Maker, number: int) -> int:
        tried.append(number)
        if number == 2 and tried.count(2) <= failures:
            raise OSError(5, "Input/output error")
        return make(self, number)

    monkeypatch.setattr(Maker, "make", failing)
    monkeypatch.setattr(cluster, "_makers", {})
    dask = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with LocalCluster(**dask, memory_limit=0) as local:
        result = run(source, out, *SEGMENTS, "--scheduler", local.scheduler_address)
    assert tried.count(2) == min(failures + 1, 3)
    if failures == 1:
        run.done(source, whole, *SEGMENTS)
        assert packets(out) == packets(whole)
    else:
        assert result.code == 1
        assert "segment 2 was not made" in result.error and "Input/output error" in result.error
        assert 1 in [record.number for record in JobFolder.of(out).records()]


def planned(source: Path, out: Path, engine: str) -> tuple[Maker, int]:
    """What makes the segments of a job whose film has been cut, and their number."""
    job = Job(source, out, engine, "ov", segment=Fraction(1))
    backend, found = vsaether.backends.select(job.backend, job.engine)
    folder = JobFolder.of(out)
    folder.open(description(job, found, backend.name))
    folder.close()
    number = 0
    with closing(VideoSource(source)) as video:
        timing = Timing.of(video.info.grid, video.info.time_base, video.start, "matroska")
        for plan in plans(Reader(video, Span(), timing), Cutter(Fraction(1))):
            folder.add_plan(plan)
            number = plan.number
    return Maker(job, folder.path), number


def hostile(kind: str, path: Path) -> Path:
    """A film whose parts are hard to find: of one GOP, of open GOPs, of B-frames at uneven times, of two clocks."""
    options = {
        "one": {"g": "1000"},
        "open": {"g": "8", "bf": "3", "x264-params": "open-gop=1:scenecut=0", "preset": "medium"},
        "uneven": {"g": "12", "bf": "2"},
        "refresh": {"g": "20", "x264-params": "intra-refresh=1"},
        "clocks": {"g": "12"},
    }[kind]
    pts = [40 * i + (i % 3) * 11 * (kind == "uneven") for i in range(75)]
    name = "whole.ts" if kind == "clocks" else "in.mp4"
    whole = make_video(path.with_name(name), pts=pts, options=ULTRAFAST | options, picture=scenes)
    if kind != "clocks":
        return whole
    path.with_name("in.ts").write_bytes(whole.read_bytes() * 2)
    return path.with_name("in.ts")


@pytest.mark.parametrize("kind", ["one", "open", "uneven", "refresh", "clocks"])
def test_parts_are_found_exactly(run: Run, identity_engine: str, tmp_path: Path, kind: str) -> None:
    """However a film is made, a segment made by itself is to the bit that of a run from the start."""
    source = hostile(kind, tmp_path / "in")
    maker, count = planned(source, tmp_path / "parts.mkv", identity_engine)
    for number in range(count, 0, -1):
        assert maker.make(number) == number
    records = list(JobFolder.of(tmp_path / "parts.mkv").records())
    assert count >= 5
    held = []
    remove = JobFolder.remove
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JobFolder, "remove", lambda self: held.extend(self.records()) or remove(self))
        run.done(source, tmp_path / "out.mkv", "--backend", "ov", "--segment", "1")
    assert records == held


def test_key_frames_are_used(identity_engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file can be searched, nobody decodes all that comes before a segment."""
    maker, count = planned(hostile("uneven", tmp_path / "in"), tmp_path / "out.mkv", identity_engine)

    def refuse(*given: object) -> Iterator[av.VideoFrame]:
        raise AssertionError("decoded from the start")

    monkeypatch.setattr(work, "_from_first", refuse)
    assert [maker.make(number) for number in range(2, count + 1)] == list(range(2, count + 1))


def test_another_film_is_not_made(identity_engine: str, tmp_path: Path) -> None:
    """Frames which are not those that were planned are noticed, wherever they are; and so is another engine."""
    source = hostile("one", tmp_path / "in")
    maker, _ = planned(source, tmp_path / "out.mkv", identity_engine)
    folder = JobFolder.of(tmp_path / "out.mkv")
    plan = folder.plan(3)
    assert plan is not None
    folder.add_plan(replace(plan, checksum=plan.checksum ^ 1))
    with pytest.raises(MediaError, match="decoded differently"):
        maker.make(3)
    assert list(folder.records()) == []
    assert sorted(path.suffix for path in folder.path.iterdir() if path.suffix not in (".plan", ".txt")) == [
        "",
        ".json",
    ]
    with pytest.raises(MediaError, match=r"engine\.sha256 was"):
        Maker(replace(maker._job, engine="tiny_2x_int8"), folder.path)
