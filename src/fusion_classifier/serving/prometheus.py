"""Metrics for Prometheus, with the names of text-embeddings-inference."""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SHARED_METRICS = "PROMETHEUS_MULTIPROC_DIR"
"""Variable with the folder in which several processes share their counters."""

SECONDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


class Metrics:
    """A server's metrics, in a separate registry; those of several workers are added up."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def histogram(name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, what, buckets=buckets, registry=self.registry)

        def gauge(name: str, what: str) -> Gauge:
            return Gauge(name, what, registry=self.registry, multiprocess_mode="livesum")

        self.requests = Counter("te_request_count", "Requests", ["method"], registry=self.registry)
        self.successes = Counter("te_request_success", "Answered requests", ["method"], registry=self.registry)
        self.failures = Counter("te_request_failure", "Refused or failed requests", ["err"], registry=self.registry)
        self.queue = gauge("te_queue_size", "Waiting texts")
        self.connections = gauge("te_connections", "Open connections")
        self.refused = Counter("te_connections_refused", "Connections over the limit", registry=self.registry)
        gauge("te_workers", "Number of processes in these metrics").set(1)
        self.seconds = histogram("te_request_duration", "Seconds per request", SECONDS)
        self.queued = histogram("te_request_queue_duration", "Seconds that a batch's oldest text waited", SECONDS)
        self.inference = histogram("te_request_inference_duration", "Seconds of the model per batch", SECONDS)
        self.stages = Histogram(
            "te_request_stage_duration",
            "Seconds of a stage: tokenize per request; queue, encode and head per batch",
            ["stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batch_texts = histogram("te_batch_next_size", "Texts per batch", SIZES)
        self.batch_tokens = histogram("te_batch_next_tokens", "Tokens per batch", TOKENS)

    def observe_batch(self, texts: int, tokens: int, waited: float, seconds: float) -> None:
        """Count a batch, as `Batcher` reports it."""
        self.batch_texts.observe(texts)
        self.batch_tokens.observe(tokens)
        self.queued.observe(waited)
        self.observe_stage("queue", waited)
        self.inference.observe(seconds)

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Count a stage's time, as `ServedModel` reports it."""
        self.stages.labels(stage=stage).observe(seconds)

    def exposition(self) -> bytes:
        """All metrics as Prometheus reads them."""
        registry = self.registry
        if SHARED_METRICS in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
