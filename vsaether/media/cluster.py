"""Segments made by several processes, here or on other machines: tasks of dask.distributed.

The job folder is the one truth. A task looks there whether its segment is complete already, and returns its number and
nothing else; so a task may run twice, anywhere, and a lost worker or scheduler costs what was under way.
"""

import logging
import queue
import signal
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import vapoursynth as vs
from dask import config  # pyright: ignore[reportPrivateImportUsage]
from distributed import Client, Future, LocalCluster, WorkerPlugin

from vsaether import system
from vsaether.errors import MediaError

from .film import check
from .manifest import JobFolder, Record, SegmentPlan
from .settings import Job
from .work import Maker

_DEVICE = "GPU"  # a resource; where workers say that they have such ones, the others get nothing to do
_RETRIES = 2  # of a task that fails; one whose worker is lost is given to another as often as dask allows
_EVERY = 0.2  # seconds between two looks at what has happened
_PATIENCE = 5  # seconds without a scheduler
_TIMEOUT = "10s"  # for a scheduler to answer
_SEEN = 30  # seconds until other machines' files are seen here
_makers: dict[str, Maker] = {}
_one_at_a_time = threading.Lock()


def make_segment(job: Job, folder: str, number: int) -> int:
    """The task: make a segment of a job, unless it is complete; the result is its number."""
    with _one_at_a_time:
        key = f"{folder} {job}"
        if key not in _makers:
            _makers.clear()
            _makers[key] = Maker(job, Path(folder))
        return _makers[key].make(number)


class ShareOfCores(WorkerPlugin):
    """Gives each worker of this machine its share of the cores, so that they do not get in one another's way."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def setup(self, worker: Any) -> None:
        """Called in each worker, also in one that takes the place of a lost one. Their names are 0, 1, ..."""
        if cores := system.take_share_of_cores(int(worker.name) % self._workers, self._workers):
            vs.core.num_threads = cores


class Distribution:
    """Lets workers make the segments of a film which are not ``done`` yet. ``progress`` is told of their frames."""

    def __init__(self, job: Job, folder: JobFolder, done: dict[int, Record], progress: Callable[[int], object]) -> None:
        engine = str(Path(job.engine).absolute()) if Path(job.engine).is_file() else job.engine
        self._job = replace(job, source=job.source.absolute(), output=job.output.absolute(), engine=engine)
        self._folder = folder
        self._done = done
        self._progress = progress
        self._events: queue.SimpleQueue[SegmentPlan | int | BaseException | None] = queue.SimpleQueue()
        self._waiting: deque[int] = deque()
        self._active: dict[int, Future] = {}
        self._stopped = False
        self._segments = 0
        self._run = uuid.uuid4().hex[:8]

    def run(self, plans: Iterator[SegmentPlan], stop: Callable[[], bool]) -> int | None:
        """Have all segments made; how many there are, or None if ``stop`` said so: what is under way ends first."""
        with _client(self._job) as client:
            cutting = threading.Thread(target=self._cut, args=(plans,), daemon=True)
            cutting.start()
            try:
                cut, seen = False, time.monotonic()
                while self._active or (not self._stopped and (self._waiting or not cut)):
                    cut = self._take() or cut
                    self._stopped = self._stopped or stop()
                    if client.status == "running":
                        seen = time.monotonic()
                    elif time.monotonic() - seen > _PATIENCE:
                        raise MediaError(f"the scheduler {client.scheduler and client.scheduler.address} is lost")
                    if not self._stopped and self._waiting and client.status == "running":
                        self._submit(client)
            finally:
                self._stopped = True
                cutting.join()
        return None if self._waiting or not cut else self._segments

    def _cut(self, plans: Iterator[SegmentPlan]) -> None:
        """Find the segments, in a thread of its own: workers are not to wait for it."""
        try:
            for plan in plans:
                if self._stopped:
                    return
                self._events.put(plan)
            self._events.put(None)
        except BaseException as error:
            self._events.put(error)

    def _take(self) -> bool:
        """See what has happened, or wait a little; whether that is that the whole film has been cut."""
        try:
            event = self._events.get(timeout=_EVERY)
        except queue.Empty:
            return False
        if event is None:
            return True
        if isinstance(event, BaseException):
            raise event
        if isinstance(event, int):
            self._finish(event)
        else:
            self._segments = event.number
            if record := self._done.get(event.number):
                check(record, (event.first, len(event.times), event.checksum), self._folder)
            else:
                self._folder.add_plan(event)
                self._waiting.append(event.number)
        return False

    def _submit(self, client: Client) -> None:
        """Give each worker that has nothing to do a segment."""
        try:
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
        except OSError:  # seen in the client's status by and by
            return
        devices = sum(int(worker["resources"].get(_DEVICE, 0)) for worker in workers)
        room = devices or sum(worker["nthreads"] for worker in workers)
        for _ in range(room - len(self._active)):
            if not self._waiting:
                return
            number = self._waiting.popleft()
            self._folder.log.worked = True
            future = client.submit(
                make_segment,
                self._job,
                str(self._folder.path),
                number,
                key=f"vsaether-{self._run}-{number}",
                resources={_DEVICE: 1} if devices else None,
                retries=_RETRIES,
                pure=False,
            )
            self._active[number] = future
            future.add_done_callback(lambda _, number=number: self._events.put(number))

    def _finish(self, number: int) -> None:
        future = self._active.pop(number)
        if future.status != "finished":
            error = future.exception() if future.status == "error" else None
            if isinstance(error, MediaError):
                raise error
            raise MediaError(f"segment {number} was not made: {error or 'the scheduler is lost'}")
        future.release()
        deadline = time.monotonic() + _SEEN
        while (record := self._folder.record(number)) is None:
            if time.monotonic() > deadline:
                raise MediaError(f"segment {number} was made, but is not in {self._folder.path}: share that folder")
            time.sleep(_EVERY)
        self._progress(record.frames)


@contextmanager
def _client(job: Job) -> Iterator[Client]:
    """A client of the scheduler that a job names, or of one on this machine with as many workers as it says."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with config.set({"distributed.comm.timeouts.connect": _TIMEOUT}):
        if job.scheduler:
            try:
                client = Client(job.scheduler, set_as_default=False)
            except (OSError, ValueError) as error:
                raise MediaError(f"no scheduler answers at {job.scheduler}: {error}") from error
            try:
                yield client
            finally:
                client.close(timeout=2)
            return
        assert job.workers
        before = signal.getsignal(signal.SIGINT)
        main = threading.current_thread() is threading.main_thread()
        if main:  # what workers inherit: Ctrl-C is for this process alone
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            cluster = LocalCluster(
                n_workers=job.workers,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            )
        finally:
            if main:
                signal.signal(signal.SIGINT, before)
        with cluster, Client(cluster, set_as_default=False) as client:
            client.register_plugin(ShareOfCores(job.workers))
            yield client
