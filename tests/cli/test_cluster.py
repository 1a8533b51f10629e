"""Segments made by other processes: the same bytes, whatever becomes of the processes."""

import json
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import psutil
import pytest
import vapoursynth as vs

import vsaether
from vsaether.errors import MediaError
from vsaether.media import work
from vsaether.media.cuts import Cutter
from vsaether.media.encoders import Encoding
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
from .test_resume import SEGMENTS, packets, scenes, stop_after

distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
from vsaether.media.cluster import Distribution  # noqa: E402

ULTRAFAST = {"preset": "ultrafast"}
PART = ("--deinterlace", "flagged", "--start", "0.4", "--end", "3.9", "--height", "80", "--audio-codec", "ac3")


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
        options = ("--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--no-dashboard")
        self.workers.append(self._start("dask_worker", self.address, *options))

    def close(self) -> None:
        for process in (self.scheduler, *self.workers):
            process.kill()
            process.wait()

    def _start(self, name: str, *arguments: str) -> subprocess.Popen:
        line = [sys.executable, "-m", f"distributed.cli.{name}", *arguments]
        return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_workers_and_schedulers_are_killed(run: Run, make_engine: MakeEngine, tmp_path: Path) -> None:
    """A worker dies midway, one comes late, the scheduler dies; one process goes on, and nothing is lost."""
    source, out, whole, log = (tmp_path / name for name in ("in.mkv", "out.mkv", "whole.mkv", "log"))
    pts = [40 * i for i in range(105)]
    make_video(source, pts=pts, size=(256, 192), options=ULTRAFAST, picture=scenes, audio="mp2")
    engine = str(make_engine(kernels=(5, 5, 3), channels=16))  # some tenths of a second of work for a segment
    folder, options = JobFolder.of(out), (*SEGMENTS, "--backend", "ort")
    with closing(Cluster(tmp_path)) as cluster:
        cluster.add()
        cluster.add()
        arguments = command("upscale", source, out, "--engine", engine, *options, "--scheduler", cluster.address)
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
    assert f"{kept} segments of" in run.done(source, out, *options, "--engine", engine).err
    run.done(source, whole, *options, "--engine", engine)
    assert packets(out) == packets(whole)
    assert not folder.path.exists()


@pytest.mark.parametrize("failures", [1, 3])
def test_a_task_that_fails_is_tried_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
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
    monkeypatch.setattr("vsaether.media.cluster._makers", {})
    dask = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**dask, memory_limit=0) as local:
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
    job = Job(source, out, engine, "ort", segment=Fraction(1), encoding=Encoding(preset="ultrafast"))
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
    whole = path / ("in.ts" if kind == "clocks" else "in.mp4")
    make_video(whole, pts=pts, options=ULTRAFAST | options, picture=scenes)
    if kind == "clocks":
        whole.write_bytes(whole.read_bytes() * 2)
    return whole


@pytest.mark.parametrize("kind", ["one", "open", "uneven", "refresh", "clocks"])
def test_parts_are_found_exactly(run: Run, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However a film is made, a segment made by itself is to the bit that of a run from the start.

    Where a file can be searched, nobody decodes all that comes before a segment.
    """
    source = hostile(kind, tmp_path)
    maker, count = planned(source, tmp_path / "parts.mkv", run.engine)
    decoded, from_first = [], work._from_first
    monkeypatch.setattr(work, "_from_first", lambda *given: decoded.append(number) or from_first(*given))
    for number in range(count, 0, -1):
        assert maker.make(number) == number
    assert kind != "uneven" or decoded == [1]
    records = list(JobFolder.of(tmp_path / "parts.mkv").records())
    assert count >= 5
    held: list[object] = []
    remove = JobFolder.remove
    monkeypatch.setattr(JobFolder, "remove", lambda self: held.extend(self.records()) or remove(self))
    run.done(source, tmp_path / "out.mkv", *SEGMENTS, "--backend", "ort")
    assert records == held


def test_another_film_is_not_made(identity_engine: str, tmp_path: Path) -> None:
    """Frames which are not those that were planned are noticed, wherever they are; and so is another engine."""
    source = hostile("one", tmp_path)
    maker, _ = planned(source, tmp_path / "out.mkv", identity_engine)
    folder = JobFolder.of(tmp_path / "out.mkv")
    plan = folder.plan(3)
    assert plan is not None
    folder.add_plan(replace(plan, checksum=plan.checksum ^ 1))
    with pytest.raises(MediaError, match="decoded differently"):
        maker.make(3)
    assert list(folder.records()) == []
    left = {path.suffix for path in folder.path.iterdir()} - {".plan", ".txt"}
    assert left == {"", ".json"}
    with pytest.raises(MediaError, match=r"engine\.sha256 was"):
        Maker(replace(maker._job, engine="tiny_2x_int8"), folder.path)


def test_workers_do_what_one_process_does(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of a film, deinterlaced, in another size, its sound converted: the same packets, though all workers die.

    One process had begun with it. None listens to other machines or is limited in its memory; what is done is let go.
    """
    times = [40 * i for i in range(110)]
    source = make_video(
        tmp_path / "in.mkv", pts=times, size=(64, 64), interlaced=True, picture=scenes, audio="pcm_s16le"
    )
    run.done(source, tmp_path / "one.ts", *SEGMENTS, *PART)
    with monkeypatch.context() as patch:
        stop_after(patch, 40, lambda: OSError(5, "Input/output error", "disk"))
        run(source, tmp_path / "two.ts", *SEGMENTS, *PART)
    kept = len(list(JobFolder.of(tmp_path / "two.ts").records()))
    seen: dict[str, Any] = {}
    submit, finish = Distribution._submit, Distribution._finish

    def submitted(self: Distribution, client: Any) -> None:
        submit(self, client)
        if "client" in seen or not self._active:
            return
        seen["client"] = client
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        seen["limits"] = [worker["memory_limit"] for worker in workers]
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        connections = [each for process in processes for each in process.net_connections("inet")]
        seen["open"] = {each.laddr.ip for each in connections if each.status == "LISTEN"}
        seen["killed"] = [process for process in processes if "spawn_main" in " ".join(process.cmdline())]
        for process in seen["killed"]:
            process.kill()

    def finished(self: Distribution, number: int) -> None:
        finish(self, number)
        held = [key for key in seen["client"].futures if key.startswith("vsaether-")]
        assert len(held) <= len(self._active) + 1
        assert f" segment {number}: " in self._folder.log.path.read_text()

    monkeypatch.setattr(Distribution, "_submit", submitted)
    monkeypatch.setattr(Distribution, "_finish", finished)
    result = run.done(source, tmp_path / "two.ts", *SEGMENTS, *PART, "--workers", "2")
    assert kept > 0 and f"{kept} segments of" in result.err
    assert packets(tmp_path / "two.ts") == packets(tmp_path / "one.ts")
    assert (seen["open"], seen["limits"], len(seen["killed"])) == ({"127.0.0.1"}, [0, 0], 2)
    assert "already in use" not in result.err


def test_cards_are_resources(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_video(tmp_path / "in.mkv", pts=[40 * i for i in range(60)], picture=scenes)
    made, make = [], Maker.make
    monkeypatch.setattr(Maker, "make", lambda self, n: made.append(distributed.get_worker().name) or make(self, n))
    workers = {
        "plain": {"cls": distributed.Worker, "options": {"nthreads": 3}},
        "card": {"cls": distributed.Worker, "options": {"nthreads": 3, "resources": {"GPU": 1}}},
    }
    options = {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    scheduler = {"cls": distributed.Scheduler, "options": options}
    with distributed.SpecCluster(workers, scheduler) as cluster:
        run.done(source, tmp_path / "out.mkv", *SEGMENTS, "--scheduler", cluster.scheduler_address)
    assert made == ["card"] * 4
    assert vs.core.max_cache_size <= 1024  # MiB
