"""Metrics for Prometheus, with the names of text-embeddings-inference."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


class Metrics:
    """One server's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def histogram(name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, what, buckets=buckets, registry=self.registry)

        self.requests = Counter("te_request_count", "Requests", ["method"], registry=self.registry)
        self.successes = Counter("te_request_success", "Answered requests", ["method"], registry=self.registry)
        self.failures = Counter("te_request_failure", "Refused or failed requests", ["err"], registry=self.registry)
        self.queue = Gauge("te_queue_size", "Waiting texts", registry=self.registry)
        self.seconds = histogram("te_request_duration", "Seconds per request", SECONDS)
        self.queued = histogram("te_request_queue_duration", "Seconds that a batch's oldest text waited", SECONDS)
        self.inference = histogram("te_request_inference_duration", "Seconds of the model per batch", SECONDS)
        self.batch_texts = histogram("te_batch_next_size", "Texts per batch", SIZES)
        self.batch_tokens = histogram("te_batch_next_tokens", "Tokens per batch", TOKENS)

    def observe_batch(self, texts: int, tokens: int, waited: float, seconds: float) -> None:
        """Count a batch, as `Batcher` reports it."""
        self.batch_texts.observe(texts)
        self.batch_tokens.observe(tokens)
        self.queued.observe(waited)
        self.inference.observe(seconds)
