"""Prediction by a pool of Ray workers, each with the whole classifier. Texts and probabilities are streamed.

One task, on this machine, reads the file in blocks and waits if the workers are behind; probabilities are returned in
the order of the texts. So neither this process nor Ray's object store contains more than a few blocks of the file.
"""

from collections.abc import Generator, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fusion_classifier.classifier.text_classifier import CHUNK_TEXTS, TextClassifier, load_classifier
from fusion_classifier.cluster.pool import RayEngine, connected
from fusion_classifier.cluster.worker import Worker, rows_of
from fusion_classifier.config import TextColumns
from fusion_classifier.support.attributes import changed
from fusion_classifier.support.files import user_path
from fusion_classifier.tasks.readers import given_rows

# Ray is imported within `connected`, which sets the variables that Ray reads on import.
# ruff: noqa: PLC0415

BLOCK_BYTES = 2**17  # of texts: about a thousand, so that even a small file is distributed over the workers


def predict_ray(
    model: str | Path,
    file: Path,
    text_column: TextColumns,
    encoder_paths: Mapping[str, str],
    engine: RayEngine,
    *,
    scored: bool = False,
    encoding: str | None = None,
) -> Generator[tuple[np.ndarray, np.ndarray]]:
    """Yield the calibrated probabilities of a file's texts, in order, in parts (n, C), and their unknown scores (n,).

    All are float32. Unknown scores are 0 unless `scored`.
    """
    with connected(engine) as pool:
        from ray.data import DataContext

        context = DataContext.get_current()
        with (
            changed(context, target_max_block_size=BLOCK_BYTES),
            changed(context.execution_options, preserve_order=True),
        ):
            dataset = _texts(file.resolve(), text_column, encoding).map_batches(
                _Worker,
                batch_size=CHUNK_TEXTS,
                batch_format="pyarrow",
                fn_constructor_kwargs={
                    # Workers have another working directory.
                    "model": str(Path(model).resolve()) if Path(model).exists() else str(model),
                    "encoder_paths": {name: str(user_path(at).absolute()) for name, at in encoder_paths.items()},
                    "engine": engine,
                    "threads": pool.cores,
                    "scored": scored,
                },
                **pool.arguments(),
            )
            for row in rows_of(dataset):
                probabilities, scores = (np.frombuffer(row[name], np.float32) for name in ("probabilities", "scores"))
                yield probabilities.reshape(row["texts"], -1), scores


def _texts(file: Path, text_column: TextColumns, encoding: str | None) -> Any:
    """A `ray.data.Dataset` of a file's texts, read on demand by one task."""
    import ray
    from ray.data import read_datasource
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def blocks() -> Iterator[pa.Table]:
        texts = (text for _, text in given_rows(file, text_column, encoding) if text is not None)
        while part := list(islice(texts, CHUNK_TEXTS)):
            yield pa.table({"text": pa.array(part, pa.string())})

    class FileTexts(Datasource):  # type: ignore[misc]  # Ray is untyped here
        def estimate_inmemory_data_size(self) -> int:
            return file.stat().st_size

        def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
            unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
            return [ReadTask(blocks, unknown)]

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # Reading reserves no core: the workers have all of them, and it would wait forever.
    resources = {"num_cpus": 0, "scheduling_strategy": here}
    return read_datasource(FileTexts(), override_num_blocks=1, ray_remote_args=resources)


class _Worker(Worker[TextClassifier]):
    """A worker with the classifier loaded."""

    result = pa.schema({"texts": pa.int64(), "probabilities": pa.binary(), "scores": pa.binary()})

    def __init__(
        self, model: str, encoder_paths: dict[str, str], engine: RayEngine, threads: int, *, scored: bool
    ) -> None:
        self.scored = scored
        super().__init__(
            lambda: load_classifier(model, engine.device, encoder_paths),
            threads,
        )

    def __call__(self, batch: pa.Table) -> pa.Table:
        """One row with the probabilities and unknown scores of a batch of texts."""
        return self.row(lambda model: self._answer(model, batch["text"].to_pylist()))

    def _answer(self, model: TextClassifier, texts: list[str]) -> dict[str, Any]:
        if self.scored:
            parts = zip(*model.predict_scored_stream(texts), strict=True)
            probabilities, scores = (np.concatenate(part) for part in parts)
        else:
            probabilities, scores = model.predict_proba(texts), np.zeros(len(texts), np.float32)
        return {"texts": len(texts), "probabilities": probabilities.tobytes(), "scores": scores.tobytes()}
