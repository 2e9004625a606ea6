"""Prediction by a pool of Ray workers, each with the whole classifier; the texts come and go as a stream.

One task, on this machine, reads the file a block at a time and waits when the workers are behind; probabilities come
back in the order of the texts. So neither this process nor the object store holds more than a few blocks of a file,
however long it is.
"""

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from ray.data import DataContext, read_datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fusion_classifier.classifier.estimator import CHUNK_TEXTS, FusionClassifier
from fusion_classifier.cluster.pool import RayEngine, as_data, connected, raise_again
from fusion_classifier.support.files import user_path
from fusion_classifier.tasks.readers import texts_of

BLOCK_BYTES = 2**17  # of texts: about a thousand, so that a small file, too, is shared out among the workers


def predict_proba_ray(
    model: str | Path, file: Path, text_column: str, encoder_paths: Mapping[str, str], engine: RayEngine
) -> Generator[np.ndarray]:
    """The calibrated probability of each label for a file's texts, in order: (n, C) at a time, float32.

    Raises:
        UsageError: Ray can't be used.
        FecError: see the messages.
    """
    with connected(engine) as pool:
        context = DataContext.get_current()
        before = context.target_max_block_size, context.execution_options.preserve_order
        context.target_max_block_size, context.execution_options.preserve_order = BLOCK_BYTES, True
        try:
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            source = read_datasource(
                _FileTexts(file, text_column),
                override_num_blocks=1,
                # Reading takes no core of its own: the workers have them all, and would wait for it for ever.
                ray_remote_args={"num_cpus": 0, "scheduling_strategy": here},
            )
            dataset = source.map_batches(
                _Worker,
                batch_size=CHUNK_TEXTS,
                batch_format="pyarrow",
                fn_constructor_kwargs={
                    "model": str(Path(model).resolve()) if Path(model).exists() else str(model),
                    "encoder_paths": {
                        name: str(user_path(place).absolute()) for name, place in encoder_paths.items()
                    },
                    "engine": engine,
                    "threads": pool.cores,
                },
                **pool.arguments(),
            )
            for row in dataset.iter_rows():
                if row["error"] is not None:
                    raise_again(row["error"])
                yield np.frombuffer(row["probabilities"], dtype=np.float32).reshape(row["texts"], -1)
        finally:
            context.target_max_block_size, context.execution_options.preserve_order = before


class _FileTexts(Datasource):  # type: ignore[misc]  # Ray is untyped here
    """A file's texts, read by one task as they are needed."""

    def __init__(self, file: Path, text_column: str) -> None:
        super().__init__()
        self.file, self.text_column = file.resolve(), text_column

    def estimate_inmemory_data_size(self) -> int:
        return self.file.stat().st_size

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:  # noqa: ARG002
        nothing_known = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(self._blocks, nothing_known)]

    def _blocks(self) -> Iterator[pa.Table]:
        waiting: list[str] = []
        for text in texts_of(self.file, self.text_column):
            waiting.append(text)
            if len(waiting) == CHUNK_TEXTS:
                yield pa.table({"text": pa.array(waiting, pa.string())})
                waiting = []
        yield pa.table({"text": pa.array(waiting, pa.string())})


class _Worker:
    """One process of the pool, with the classifier loaded."""

    def __init__(self, model: str, encoder_paths: dict[str, str], engine: RayEngine, threads: int) -> None:
        torch.set_num_threads(threads)
        self.classifier, self.error = as_data(
            lambda: FusionClassifier.from_pretrained(model, device=engine.device, encoder_paths=encoder_paths)
        )

    def __call__(self, batch: pa.Table) -> pa.Table:
        """One row for a batch of texts: their probabilities, or what went wrong."""
        texts, classifier = batch["text"].to_pylist(), self.classifier
        found, error = (None, self.error) if classifier is None else as_data(lambda: classifier.predict_proba(texts))
        row = {"texts": len(texts), "probabilities": b"" if found is None else found.tobytes(), "error": error}
        return pa.Table.from_pylist([row], schema=RESULT)


RESULT = pa.schema(
    [
        ("texts", pa.int64()),
        ("probabilities", pa.binary()),
        ("error", pa.struct([("kind", pa.string()), ("message", pa.string())])),
    ]
)
