"""What workers do: all that one process does, for this machine alone, and where there are cards, only those."""

from pathlib import Path
from typing import Any

import psutil
import pytest
import vapoursynth as vs

from vsaether.media.work import Maker

from .conftest import Run, make_video
from .test_resume import packets, scenes

distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
from vsaether.media.cluster import Distribution  # noqa: E402

OPTIONS = ("--segment", "1", "--preset", "ultrafast", "--backend", "ov")
PART = ("--deinterlace", "flagged", "--start", "0.4", "--end", "3.9", "--height", "80", "--audio-codec", "ac3")


def test_workers_do_what_one_process_does(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of a film, deinterlaced, in another size, its sound converted: the same packets, though all workers die.

    None of the processes listens to other machines, none is limited in its memory, and what is done is let go.
    """
    times = [40 * i for i in range(110)]
    source = make_video(
        tmp_path / "in.mkv", pts=times, size=(64, 64), interlaced=True, picture=scenes, audio="pcm_s16le"
    )
    assert run(source, tmp_path / "one.ts", *OPTIONS, *PART).code == 0
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
        kept = [key for key in seen["client"].futures if key.startswith("vsaether-")]
        assert len(kept) <= len(self._active) + 1
        assert f" segment {number}: " in self._folder.log.path.read_text()

    monkeypatch.setattr(Distribution, "_submit", submitted)
    monkeypatch.setattr(Distribution, "_finish", finished)
    result = run(source, tmp_path / "two.ts", *OPTIONS, *PART, "--workers", "2")
    assert result.code == 0, result.err
    assert packets(tmp_path / "two.ts") == packets(tmp_path / "one.ts")
    assert (seen["open"], seen["limits"], len(seen["killed"])) == ({"127.0.0.1"}, [0, 0], 2)
    assert "already in use" not in result.err


def test_cards_are_resources(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a worker says that it has one, it gets all segments, one at a time; the others have none."""
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
        result = run(source, tmp_path / "out.mkv", *OPTIONS, "--scheduler", cluster.scheduler_address)
    assert result.code == 0, result.err
    assert made == ["card"] * 4
    assert vs.core.max_cache_size <= 1024  # MiB
