"""Decodes and analyses files in the actors of a Ray cluster, each of which loads the models once.

    indexer ─ bytes of a batch ─▶ actor: decode, sign, analyse ─ signatures, analyses ─▶ indexer

Ray places the actors, restarts them, repeats the batches of one that died, and moves the bytes. An
actor has at most two batches, so that it never waits for the next and memory stays bounded. Files
of a batch that killed its actor twice are analysed alone, so that only the guilty one fails. An
actor whose node is lost may wait for another place for ever; other actors repeat its batches. A
batch that loses two nodes is treated as one that killed its actor twice.
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
from dataclasses import dataclass
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
# As many beats, after which Ray surely knows which nodes are lost.
_MOST_LOADS = 30
# Polls, not seconds: a process that was stopped must not take the cluster for lost.
_POLLS_UNTIL_LOST = 60
_POLLS_AFTER_STOP = 120
_MOST_NODES = 2  # that the same files may lose
_KILLER = "it ended the process that analysed it, twice"
_NODE_KILLER = "two nodes of the Ray cluster were lost while they analysed it"


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
        self._threads = profile.analyzer_threads
        options = _actor_options(ray.nodes(), self._threads)
        if not options:
            raise ClusterUnavailable(
                f"the Ray cluster {address} has no CPU", remedy="add a node that has some"
            )
        is_offline = bool(os.environ.get("HF_HUB_OFFLINE"))
        actor = ray.remote(_Actor)
        self._places = [
            _Place(
                actor.options(max_restarts=-1, max_task_retries=1, **one).remote(
                    profile, self.fingerprint, is_offline
                )
            )
            for one in options
        ]
        # Those that are asked at the next beat to load the models.
        self._away: list[_Place] = []
        self.batches_at_once = _BATCHES_AN_ACTOR * len(self._places)
        self._changed = threading.Condition()
        self._waiting_alone = 0
        self._error: Exception | None = None
        self._beats = 0
        self._closed = threading.Event()
        threading.Thread(target=self._beat, name="ray", daemon=True).start()
        for place in self._places:
            self._load(place)

    @property
    def is_lost(self) -> bool:
        """Whether it can't be used any more."""
        return self._error is not None

    def close(self) -> None:
        """End the actors, whatever they do."""
        import ray

        self._closed.set()
        for place in self._places:
            # What is left of a lost cluster ends with the connection.
            with contextlib.suppress(Exception):
                ray.kill(place.actor)

    def analyse(
        self, files: Sequence[bytes], limits: DecodeLimits, stopped: Callable[[], bool]
    ) -> list[FileAnalysis]:
        """See `FileAnalyzer`."""
        try:
            return self._analyse(files, limits, stopped, alone=False)
        except _ActorDied as error:
            _log.info(
                "a batch of %d ended its actor; trying its files alone: %s", len(files), error
            )
        return [self._analyse([file], limits, stopped, alone=True)[0] for file in files]

    def _analyse(
        self, files: Sequence[bytes], limits: DecodeLimits, stopped: Callable[[], bool], alone: bool
    ) -> list[FileAnalysis]:
        """The analyses of one actor, or of another if its node is lost; raises _ActorDied.

        A file that is alone and ends its actor, or loses a second node, fails instead.
        """
        for _ in range(_MOST_NODES):
            try:
                with self._place(stopped, alone=alone) as place:
                    results: list[FileAnalysis]
                    try:
                        results = self._result(
                            place, place.actor.analyse.remote(files, limits), stopped
                        )
                    except _ActorDied:
                        if not alone:
                            raise
                        # The file is guilty only if the actor lives without it.
                        try:
                            self._result(place, place.actor.load.remote(), stopped)
                        except _ActorDied:
                            with self._changed:
                                self._leave(place)
                            raise _NodeLost from None
                        results = [_KILLER]
                    return results
            except _NodeLost:
                _log.info("a batch of %d was on a node that is lost", len(files))
        if alone:
            return [_NODE_KILLER]
        raise _ActorDied(f"{_MOST_NODES} nodes were lost")

    @contextlib.contextmanager
    def _place(self, stopped: Callable[[], bool], *, alone: bool) -> Iterator[_Place]:
        """An actor with room for a batch, or with none but this one."""
        most = 1 if alone else _BATCHES_AN_ACTOR
        polls = _Polls(self)
        with self._changed:
            self._waiting_alone += alone
            try:
                while True:
                    polls.check()
                    ready = [place for place in self._places if place.is_ready]
                    place = min(ready, key=lambda one: one.batches, default=None)
                    has_turn = alone or not self._waiting_alone
                    if has_turn and place is not None and place.batches < most:
                        break
                    if stopped():
                        raise CancelledError
                    self._changed.wait(_POLL_SECONDS)
                count = _BATCHES_AN_ACTOR if alone else 1
                place.batches += count
            finally:
                self._waiting_alone -= alone
        try:
            yield place
        finally:
            with self._changed:
                place.batches -= count
                self._changed.notify_all()

    def _result(self, place: _Place, reference: Any, stopped: Callable[[], bool]) -> Any:
        """The result of an actor's method.

        Raises what the method raised, _ActorDied and _NodeLost.
        """
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
            if not place.is_ready:
                raise _NodeLost
            after_stop += stopped()
            if after_stop >= _POLLS_AFTER_STOP:
                raise CancelledError

    def _load(self, place: _Place) -> None:
        """Let an actor load the models, once Ray has a node for it, and then take batches."""
        place.actor.load.remote().future().add_done_callback(partial(self._admit, place))

    def _admit(self, place: _Place, loading: Future[str]) -> None:
        """Let an actor take batches that has loaded the models."""
        from ray.exceptions import ActorUnavailableError

        error = loading.exception()
        with self._changed:
            if error is None:
                place.node, place.is_ready, place.failed_loads = loading.result(), True, 0
            elif isinstance(error, ActorUnavailableError) and place.failed_loads < _MOST_LOADS:
                place.failed_loads += 1
                self._away.append(place)
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
                nodes = ray.nodes()
                alive = {node["NodeID"] for node in nodes if node["Alive"]}
                with self._changed:
                    for place in self._places:
                        if place.node not in alive:
                            self._leave(place)
                    away, self._away = self._away, []
                if not _actor_options(nodes, self._threads):
                    self._lost("no node with a CPU is left")
                for place in away:
                    self._load(place)
            except Exception as error:  # noqa: BLE001 - Ray raises anything
                if not self._closed.is_set():
                    self._lost(error)
                return
            self._beats += 1

    def _leave(self, place: _Place) -> None:
        """Give what an actor has to others, until Ray has another node for it."""
        if place.is_ready:
            place.is_ready = False
            self._away.append(place)
            self._changed.notify_all()

    def _lost(self, error: object) -> Exception:
        """Remember, and return, that the cluster is lost."""
        with self._changed:
            self._error = self._error or ClusterUnavailable(
                f"the Ray cluster {self._address} was lost: {_first_line(error)}",
                remedy="what is committed stays; run the command again when the cluster is back",
            )
            self._changed.notify_all()
            return self._error


@dataclass(eq=False, slots=True)
class _Place:
    """An actor, the id of the node where it loaded the models, and how many batches it has."""

    actor: Any
    node: str = ""
    batches: int = 0
    is_ready: bool = False
    failed_loads: int = 0


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
    """An actor died during a batch and again when Ray repeated it, or two nodes were lost."""


class _NodeLost(Exception):
    """An actor's node was lost during a batch."""


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

    def load(self) -> str:
        """Load the models; return the id of the node.

        Raises ModelError, and PipelineConflict when they are others than here.
        """
        import ray

        self._loaded()
        return str(ray.get_runtime_context().get_node_id())

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
