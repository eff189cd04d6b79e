"""Prometheus metrics: durations of requests and stages, jobs, index sizes, model memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from regard.api.http.one_at_a_time import OneAtATime
from regard.api.library.home import Home
from regard.core.errors import RegardError
from regard.storage.service.jobs import SqlJobQueue
from regard.storage.service.webhooks import SqlWebhooks

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
# How long a scrape waits for the vector engine; Prometheus gives up after ten seconds.
_ENGINE_SECONDS = 1.0


class Metrics:
    """One registry for each service, so that one process can run several."""

    def __init__(self, jobs: SqlJobQueue, library: Callable[[], Home]) -> None:
        """`library` returns the home that currently answers."""
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "regard_http_request_seconds",
            "Time from a request to the end of its response.",
            ("method", "route", "status"),
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self._stages = Histogram(
            "regard_stage_seconds",
            "Time spent in a stage: encode, index, fuse, hydrate, thumbnail, upload.",
            ("stage",),
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self._registry.register(_State(jobs, library))

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request; `route` is the route's pattern, not the requested path."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Count one run of a stage."""
        self._stages.labels(stage).observe(seconds)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _State(Collector):
    """Gauges that are read at scrape time; those that can't be read in time are omitted."""

    def __init__(self, jobs: SqlJobQueue, library: Callable[[], Home]) -> None:
        self._jobs = jobs
        self._library = library
        self._sizes = OneAtATime[Mapping[str, Mapping[str, Any]]]("index sizes")

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("regard_jobs", "Jobs by state.", labels=["state"])
        rows = GaugeMetricFamily(
            "regard_index_rows", "Vectors in an index.", labels=["space", "kind"]
        )
        memory = GaugeMetricFamily(
            "regard_model_memory_bytes", "Memory used by loaded models.", labels=["part"]
        )
        recall = GaugeMetricFamily(
            "regard_recall",
            "Share of the k nearest vectors that searches find, as last measured.",
            labels=["space", "kind", "query_kind", "k"],
        )
        measured = GaugeMetricFamily(
            "regard_recall_measured_timestamp_seconds", "When recall was last measured."
        )
        waiting = GaugeMetricFamily(
            "regard_webhook_waiting", "Changes that a webhook has not accepted.", labels=["webhook"]
        )
        failures = GaugeMetricFamily(
            "regard_webhook_failures", "Attempts in a row that failed.", labels=["webhook"]
        )
        library = self._library()
        try:
            for webhook in SqlWebhooks(library.catalog).list():
                waiting.add_metric([str(webhook.id)], webhook.waiting)
                failures.add_metric([str(webhook.id)], webhook.failures)
            for state, count in self._jobs.counts().items():
                jobs.add_metric([state.value], count)
            sizes = self._sizes.run(library.indexes.stats, _ENGINE_SECONDS) or {}
            for channel, stats in sizes.items():
                space, _, kind = channel.rpartition("/")
                rows.add_metric([space, kind], stats["rows"])
        except RegardError:
            # /readyz reports the failure.
            pass
        for part, count in library.profile.loaded_bytes().items():
            memory.add_metric([part], count)
        report = library.indexes.last_recall()
        if report is not None:
            measured.add_metric([], report.taken.timestamp())
            for one in report.channels:
                of_channel = [one.space, one.kind, one.query_kind]
                recall.add_metric([*of_channel, "10"], one.at_10.value)
                recall.add_metric([*of_channel, "100"], one.at_100.value)
        yield from (jobs, rows, memory, recall, measured, waiting, failures)
