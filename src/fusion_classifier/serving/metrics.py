"""Figures for Prometheus, with the names of text-embeddings-inference."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

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
        self.queue = Gauge("te_queue_size", "Texts that wait", registry=here)
        self.batch_texts = Histogram("te_batch_next_size", "Texts a batch", buckets=SIZES, registry=here)
        self.batch_tokens = Histogram("te_batch_next_tokens", "Tokens a batch", buckets=TOKENS, registry=here)

    def batch(self, texts: int, tokens: int) -> None:
        """A batch goes to the model."""
        self.batch_texts.observe(texts)
        self.batch_tokens.observe(tokens)
