"""Figures for Prometheus, with the names of text-embeddings-inference."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from fusion_classifier.serving.batching import Done

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


class Metrics:
    """One server's figures, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = here = CollectorRegistry()
        self.requests = Counter("te_request_count", "Requests", ["method"], registry=here)
        self.successes = Counter("te_request_success", "Requests answered", ["method"], registry=here)
        self.failures = Counter("te_request_failure", "Requests refused or failed", ["err"], registry=here)
        self.seconds = Histogram("te_request_duration", "Seconds a request", buckets=SECONDS, registry=here)
        self.queue = Gauge("te_queue_size", "Texts that wait", registry=self.registry)
        self.queued = Histogram(
            "te_request_queue_duration",
            "Seconds a batch's oldest text waited",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.inference = Histogram(
            "te_request_inference_duration", "Seconds of the model a batch", buckets=SECONDS, registry=self.registry
        )
        self.batch_texts = Histogram("te_batch_next_size", "Texts a batch", buckets=SIZES, registry=self.registry)
        self.batch_tokens = Histogram(
            "te_batch_next_tokens", "Tokens a batch", buckets=TOKENS, registry=self.registry
        )

    def batch(self, done: Done) -> None:
        """A batch has gone through the model."""
        self.batch_texts.observe(done.texts)
        self.batch_tokens.observe(done.tokens)
        self.queued.observe(done.waited)
        self.inference.observe(done.seconds)
