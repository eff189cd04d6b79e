"""Decodes and analyses files in the actors of a Ray cluster, each of which loads the models once.

    indexer ─ bytes of a batch ─▶ actor: decode, sign, analyse ─ signatures, analyses ─▶ indexer

Ray places the actors, restarts them, repeats the batches of one that died, and moves the bytes. An
actor has at most two batches, so that it never waits for the next and memory stays bounded. Files
of a batch that killed its actor twice are analysed alone, so that only the guilty one fails.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any

from regard.core.errors import (
    ClusterUnavailable,
    DecodeError,
    MissingDependency,
    ModelError,
    PipelineConflict,
    RegardError,
    UsageError,
)
from regard.core.machine import usable_cores
from regard.core.protocols import Analyzer, Profile
from regard.core.records import Image, Signature
from regard.indexer.analysis import FileAnalysis, analyse_images, reason_unread
from regard.photos.decoding import DecodeLimits
from regard.photos.photo_file import PhotoFile, sign

_log = logging.getLogger(__name__)

LOCAL = "local"
_ADDRESS = re.compile(
    r"local|auto|(ray://)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s/:@\[\]]+):(?P<port>[0-9]{1,5})"
)
_CONNECT_SECONDS = 5.0
_BATCHES_AN_ACTOR = 2
# Batches on their way to and from local actors; Ray writes what is more to files.
_LOCAL_STORE_BYTES = 1 << 29
_POLL_SECONDS = 0.5
_BEAT_SECONDS = 2.0
# Polls, not seconds: a process that was stopped must not take the cluster for lost.
_POLLS_UNTIL_LOST = 60
_POLLS_AFTER_STOP = 120
_KILLER = "it ended the process that analysed it, twice"


def check_address(address: str) -> None:
    """Raise MissingDependency without Ray, UsageError for an address of an unknown form."""
    if _ADDRESS.fullmatch(address) is None:
        raise UsageError(
            f"{address!r} is not the address of a Ray cluster",
            remedy="give --ray local, auto, HOST:PORT or ray://HOST:PORT",
        )
    if importlib.util.find_spec("ray") is None:
        raise MissingDependency(
            "Ray is not installed", remedy="install it with `pip install 'regard[ray]'`"
        )


class _Connection:
    """The one connection to Ray that a process can have, and its analyzer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._address: str | None = None
        self._analyzer: RayAnalyzer | None = None

    def analyzer(self, address: str, profile: Profile) -> RayAnalyzer:
        """The analyzer of a profile; that of another one gives up its actors first."""
        with self._lock:
            current = self._analyzer
            fingerprint = profile.spec.fingerprint
            if current is not None and current.fingerprint == fingerprint and not current.is_lost:
                return current
            self._analyzer = None
            is_lost = current is not None and current.is_lost
            if current is not None:
                current.close()
            if self._address != address or is_lost:
                self._address = None
                _connect(address)
                self._address = address
            self._analyzer = RayAnalyzer(address, profile)
            return self._analyzer

    def close(self) -> None:
        """End the actors, and a Ray that was started here."""
        with self._lock:
            if self._analyzer is not None:
                self._analyzer.close()
            if self._address is not None:
                import ray

                ray.shutdown()
            self._address = self._analyzer = None


_connection = _Connection()


def ray_analyzer(address: str, profile: Profile) -> RayAnalyzer:
    """The analyzer of a profile on the cluster at an address; connects first.

    Raises ClusterUnavailable, ModelError, and what `check_address` raises.
    """
    check_address(address)
    return _connection.analyzer(address, profile)


def disconnect() -> None:
    """End the actors of this process, and a Ray that was started here, if there are any."""
    _connection.close()


class RayAnalyzer:
    """See `FileAnalyzer`. Actors take batches as soon as they have loaded the models."""

    def __init__(self, address: str, profile: Profile) -> None:
        """Start the actors without waiting for them; raises ClusterUnavailable."""
        import ray

        self._address = address
        self.fingerprint = profile.spec.fingerprint
        options = _actor_options(ray.nodes(), profile.analyzer_threads)
        if not options:
            raise ClusterUnavailable(
                f"the Ray cluster {address} has no CPU", remedy="add a node that has some"
            )
        is_offline = bool(os.environ.get("HF_HUB_OFFLINE"))
        actor = ray.remote(_Actor)
        self._actors = [
            actor.options(max_restarts=-1, max_task_retries=1, **one).remote(
                profile, self.fingerprint, is_offline
            )
            for one in options
        ]
        self.batches_at_once = _BATCHES_AN_ACTOR * len(self._actors)
        self._changed = threading.Condition()
        # Batches by the number of an actor that is ready.
        self._running: dict[int, int] = {}
        self._waiting_alone = 0
        self._error: Exception | None = None
        self._beats = 0
        self._closed = threading.Event()
        threading.Thread(target=self._beat, name="ray", daemon=True).start()
        for number, one in enumerate(self._actors):
            one.load.remote().future().add_done_callback(partial(self._admit, number))

    @property
    def is_lost(self) -> bool:
        """Whether it can't be used any more."""
        return self._error is not None

    def close(self) -> None:
        """End the actors, whatever they do."""
        import ray

        self._closed.set()
        for actor in self._actors:
            # What is left of a lost cluster ends with the connection.
            with contextlib.suppress(Exception):
                ray.kill(actor)

    def analyse(
        self, files: Sequence[bytes], limits: DecodeLimits, stopped: Callable[[], bool]
    ) -> list[FileAnalysis]:
        """See `FileAnalyzer`."""
        try:
            with self._actor(stopped, alone=False) as actor:
                results: list[FileAnalysis] = self._result(
                    actor.analyse.remote(files, limits), stopped
                )
                return results
        except _ActorDied as error:
            _log.info(
                "a batch of %d ended its actor; trying its files alone: %s", len(files), error
            )
        return [self._analyse_alone(file, limits, stopped) for file in files]

    def _analyse_alone(
        self, file: bytes, limits: DecodeLimits, stopped: Callable[[], bool]
    ) -> FileAnalysis:
        with self._actor(stopped, alone=True) as actor:
            try:
                result: FileAnalysis = self._result(actor.analyse.remote([file], limits), stopped)[
                    0
                ]
                return result
            except _ActorDied:
                # The file is guilty only if the actor lives without it.
                try:
                    self._result(actor.load.remote(), stopped)
                except _ActorDied as error:
                    raise self._lost(error) from error
                return _KILLER

    @contextlib.contextmanager
    def _actor(self, stopped: Callable[[], bool], *, alone: bool) -> Iterator[Any]:
        """An actor with room for a batch, or with none but this one."""
        most = 1 if alone else _BATCHES_AN_ACTOR
        polls = _Polls(self)
        with self._changed:
            self._waiting_alone += alone
            try:
                while True:
                    polls.check()
                    number = min(self._running, key=self._running.__getitem__, default=None)
                    has_turn = alone or not self._waiting_alone
                    if has_turn and number is not None and self._running[number] < most:
                        break
                    if stopped():
                        raise CancelledError
                    self._changed.wait(_POLL_SECONDS)
                count = _BATCHES_AN_ACTOR if alone else 1
                self._running[number] += count
            finally:
                self._waiting_alone -= alone
        try:
            yield self._actors[number]
        finally:
            with self._changed:
                self._running[number] -= count
                self._changed.notify_all()

    def _result(self, reference: Any, stopped: Callable[[], bool]) -> Any:
        """The result of an actor's method; raises what the method raised, and _ActorDied."""
        from ray.exceptions import RayError, RayTaskError

        future = reference.future()
        polls, after_stop = _Polls(self), 0
        while True:
            try:
                return future.result(timeout=_POLL_SECONDS)
            except TimeoutError:
                if future.done():
                    raise
            except RayTaskError as error:
                raise getattr(error, "cause", None) or error from None
            except RayError as error:
                raise _ActorDied(str(error)) from error
            except ConnectionError as error:
                raise self._lost(error) from error
            polls.check()
            after_stop += stopped()
            if after_stop >= _POLLS_AFTER_STOP:
                raise CancelledError

    def _admit(self, number: int, loading: Future[None]) -> None:
        """Let an actor take batches once it has loaded the models."""
        error = loading.exception()
        with self._changed:
            if error is None:
                self._running[number] = 0
            elif not self._closed.is_set() and self._error is None:
                cause = getattr(error, "cause", None)
                self._error = (
                    cause
                    if isinstance(cause, RegardError)
                    else ModelError(
                        f"an actor on Ray can't load the models: {_first_line(error)}",
                        remedy="install regard[ray] and the models alike on all nodes",
                    )
                )
            self._changed.notify_all()

    def _beat(self) -> None:
        """Ask the cluster now and then; without answers, `_Polls` take it for lost."""
        import ray

        while not self._closed.wait(_BEAT_SECONDS):
            try:
                ray.nodes()
            except Exception as error:  # noqa: BLE001 - Ray raises anything
                if not self._closed.is_set():
                    self._lost(error)
                return
            self._beats += 1

    def _lost(self, error: object) -> Exception:
        """Remember, and return, that the cluster is lost."""
        with self._changed:
            self._error = self._error or ClusterUnavailable(
                f"the Ray cluster {self._address} was lost: {_first_line(error)}",
                remedy="what is committed stays; run the command again when the cluster is back",
            )
            self._changed.notify_all()
            return self._error


class _Polls:
    """Counts the polls of one wait since the cluster answered last."""

    def __init__(self, analyzer: RayAnalyzer) -> None:
        self._analyzer = analyzer
        self._beats, self._count = -1, 0

    def check(self) -> None:
        """Raise the error of the analyzer, or that the cluster has not answered for long."""
        analyzer = self._analyzer
        if analyzer._beats != self._beats:
            self._beats, self._count = analyzer._beats, 0
        self._count += 1
        if self._count > _POLLS_UNTIL_LOST:
            analyzer._lost("it does not answer")
        if analyzer._error is not None:
            raise analyzer._error


class _ActorDied(Exception):
    """An actor died during a batch, and again when Ray repeated it."""


class _Actor:
    """Runs in a process of the cluster."""

    def __init__(self, profile: Profile, fingerprint: str, is_offline: bool) -> None:
        if is_offline:
            # The hub's library reads it when it is imported, which is later.
            os.environ["HF_HUB_OFFLINE"] = "1"
        self._profile = profile
        self._fingerprint = fingerprint
        self._analyzer: Analyzer | None = None
        # While one batch is analysed, the next is decoded.
        self._loading, self._analysing = threading.Lock(), threading.Lock()

    def load(self) -> None:
        """Load the models; raises ModelError, PipelineConflict when they are others than here."""
        self._loaded()

    def analyse(self, files: Sequence[bytes], limits: DecodeLimits) -> list[FileAnalysis]:
        """One result a file, in order."""
        decoded = [_decode(file, limits) for file in files]
        images = [one[0] for one in decoded if not isinstance(one, str)]
        analyzer = self._loaded()
        with self._analysing:
            analyses = iter(analyse_images(analyzer, images) if images else [])
        results: list[FileAnalysis] = []
        for one in decoded:
            if isinstance(one, str):
                results.append(one)
            else:
                analysis = next(analyses)
                results.append(analysis if isinstance(analysis, str) else (one[1], analysis))
        return results

    def _loaded(self) -> Analyzer:
        with self._loading:
            if self._analyzer is None:
                if self._profile.spec.fingerprint != self._fingerprint:
                    raise PipelineConflict(
                        f"a node of the Ray cluster has other models of {self._profile.name}",
                        remedy="install the same regard and the same models on all nodes",
                    )
                self._analyzer = self._profile.analyzer()
            return self._analyzer


def _decode(file: bytes, limits: DecodeLimits) -> tuple[Image, Signature] | str:
    """The pixels of a file and their signature, or why there are none."""
    try:
        image = PhotoFile(file, limits).decode()
        return image, sign(image)
    except DecodeError as error:
        return error.message
    except Exception as error:  # noqa: BLE001 - one file must not stop the run
        return reason_unread(error)


def _actor_options(
    nodes: Sequence[Mapping[str, Any]], threads: int | None
) -> list[dict[str, float]]:
    """What each actor takes: a GPU, a core, or its part of a machine without GPU.

    `threads` is `Profile.analyzer_threads`: models that run on a core each need no GPU.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    cores = [int(one.get("CPU", 0)) for one in resources]
    if threads is None:
        return [{"num_cpus": 1} for count in cores for _ in range(count)]
    gpus = sum(int(one.get("GPU", 0)) for one in resources)
    if gpus:
        # Without `num_cpus`, Ray would leave a GPU idle for want of a free core.
        one: dict[str, float] = {
            "num_gpus": 1,
            "num_cpus": 0,
            "max_concurrency": _BATCHES_AN_ACTOR,
        }
        return [one] * gpus
    return [
        {"num_cpus": max(1, count // threads)}
        for count in cores
        for _ in range(min(count, threads))
    ]


def _connect(address: str) -> None:
    """Connect this process to a cluster, or start one here; raises ClusterUnavailable."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray would end this process a minute after the cluster's head is gone.
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "1000000")
    _require_reachable(address)
    import ray
    import ray._private.worker

    # Ray's own notes would go to stdout, which may be for JSON alone.
    ray._private.worker.print_to_stdstream = _discard
    options: dict[str, Any] = {}
    if address == LOCAL:
        options = {
            "num_cpus": usable_cores(),
            "include_dashboard": False,
            "object_store_memory": _LOCAL_STORE_BYTES,
        }
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if ray.is_initialized():
            ray.shutdown()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:
        raise _unavailable(address, error) from error
    finally:
        # Ray replaces it, but SIGTERM must stop a run in order.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _require_reachable(address: str) -> None:
    """Fail at once where nobody listens; Ray would try for minutes."""
    parts = _ADDRESS.fullmatch(address)
    if parts is None or parts["host"] is None:
        return
    try:
        place = parts["host"].strip("[]"), int(parts["port"])
        socket.create_connection(place, _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unavailable(address, error) from error


def _unavailable(address: str, error: Exception) -> ClusterUnavailable:
    return ClusterUnavailable(
        f"the Ray cluster {address} can't be reached: {_first_line(error)}",
        remedy="start it with `ray start --head`, or give --ray the address of one that runs",
    )


def _first_line(error: object) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


def _discard(*_arguments: object, **_options: object) -> None:
    pass
