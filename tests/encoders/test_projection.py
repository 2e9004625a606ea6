"""Projections: what they keep, what they refuse, and that they go with the classifier."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from fusion_classifier import FusionClassifier
from fusion_classifier.commands.project import project
from fusion_classifier.config import ProjectionKind, TaskConfig
from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.loading import load_encoder
from fusion_classifier.encoders.projection import fit_projection, load_projection, quantize, save_projection
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.errors import DataError, FecError, UsageError, WeightsError
from fusion_classifier.features.arrays import TokenFeatures
from fusion_classifier.features.extract import extract_features, read_features
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.runs.context import RunContext
from fusion_classifier.support.progress import QUIET
from fusion_classifier.tasks.registry import load_task

CPU = torch.device("cpu")
TEXTS = ["what a day", "we won", "he broke it again", "something moved outside, in the dark"]


def states(seed: int = 0, tokens: int = 500) -> torch.Tensor:
    """States of 2 layers of width 12 that vary in 4 directions, with scales far apart and one massive activation."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(2, 4, 12, generator=generator)
    weights = torch.randn(tokens, 2, 4, generator=generator)
    x = torch.einsum("tlk,lkh->tlh", weights, directions) * torch.logspace(-2, 2, 12) + 5
    x[3, 0, 5] = 30_000
    return x


@pytest.fixture
def work(tmp_path: Path) -> RunContext:
    return RunContext(FeatureStore(tmp_path / "store"), CPU, QUIET)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), kind=st.sampled_from(["pca", "random", "none"]))
def test_components_have_unit_variance(seed: int, kind: ProjectionKind) -> None:
    x = states(seed)
    fitted = fit_projection(x, kind, 3 if kind != "none" else None, int8=False, fitted_on={})
    y = fitted.project(x)
    assert y.shape == (500, 2, 12 if kind == "none" else 3)
    np.testing.assert_allclose(y.std(0).numpy(), 1, atol=0.3)


def test_principal_components_keep_what_varies() -> None:
    """Four directions of variation: four components say everything, up to the clipped massive activation."""
    x = states()
    y = fit_projection(x, "pca", 4, int8=False, fitted_on={}).project(x)[5:, 0].double()
    z = ((x - x[5:].mean(0)) / x[5:].std(0))[5:, 0].double()
    solved = torch.linalg.lstsq(torch.cat([y, torch.ones(len(y), 1)], 1), z).solution
    rebuilt = torch.cat([y, torch.ones(len(y), 1)], 1) @ solved
    assert (rebuilt - z).square().mean() < 0.01


@settings(deadline=None)
@given(st.lists(st.floats(-7, 7, width=32), min_size=1, max_size=20))
def test_eight_bits_are_within_half_a_step(values: list[float]) -> None:
    array = np.array(values, dtype=np.float32)
    kept = quantize(array)
    assert kept.dtype == np.int8
    assert np.abs(kept / 16 - array).max() <= 1 / 32 + 1e-6


def test_beyond_eight_bits_is_clipped_not_wrapped() -> None:
    assert quantize(np.array([-100.0, 100.0, 8.0])).tolist() == [-127, 127, 127]


@pytest.mark.parametrize("kind", ["pca", "none"])
def test_saved_and_loaded_it_is_the_same(tmp_path: Path, kind: ProjectionKind) -> None:
    fitted = fit_projection(states(), kind, 3 if kind == "pca" else None, int8=True, fitted_on={"layers": [1, 2]})
    save_projection(fitted, tmp_path / "p.safetensors")
    loaded = load_projection(tmp_path / "p.safetensors")
    assert torch.equal(loaded.project(states()), fitted.project(states()))
    assert (loaded.int8, loaded.fitted_on) == (True, {"layers": [1, 2]})


def test_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    with pytest.raises(WeightsError, match="no such projection file"):
        load_projection(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match=r"p\.safetensors is not a projection"):
        load_projection(path)
    save_projection(fit_projection(states(), "pca", 3, int8=False, fitted_on={}), path)
    tensors = load_file(path)
    for name, wrong in {"mean": tensors["mean"][:1], "matrix": tensors["matrix"] * torch.nan}.items():
        save_file(tensors | {name: wrong}, path, {"int8": "false", "fitted_on": "{}"})
        with pytest.raises(WeightsError, match="do not fit together"):
            load_projection(path)


@pytest.mark.parametrize("width", [0, 12, 13])
def test_a_width_that_can_not_be_is_refused(width: int) -> None:
    with pytest.raises(UsageError, match="`width`"):
        fit_projection(states(), "pca", width, int8=False, fitted_on={})


def test_too_few_tokens_are_refused() -> None:
    with pytest.raises(DataError, match="too few"):
        fit_projection(states()[:4], "pca", 6, int8=False, fitted_on={})


def fitted_file(bert_folder: Path, work: RunContext, path: Path, *, int8: bool = True) -> Path:
    task = load_task(TaskConfig(name="demo"))
    config = parse_encoder(f"{bert_folder}?layers=1,2&dtype=float32", features="tokens")
    project(config, task, path, work, width=8, int8=int8, texts=60)
    return path


def test_an_encoder_with_a_projection_gives_projected_states(
    bert_folder: Path, work: RunContext, tmp_path: Path
) -> None:
    path = fitted_file(bert_folder, work, tmp_path / "p.safetensors")
    spec = f"{bert_folder}?layers=1,2&dtype=float32&pooling=tokens"
    plain, small = (
        load_encoder(parse_encoder(spec), CPU),
        load_encoder(parse_encoder(f"{spec}&projection={path}"), CPU),
    )
    projection = load_projection(path)
    assert small.shape == (2, 8)
    for before, after in zip(encode(plain, TEXTS), encode(small, TEXTS), strict=True):
        assert after.dtype == np.int8
        expected = quantize(projection.project(torch.from_numpy(before)).numpy())
        # A value on the border between two steps may fall to either.
        assert np.abs(after.astype(int) - expected.astype(int)).max() <= 1


def test_the_store_keeps_eight_bits(bert_folder: Path, work: RunContext, tmp_path: Path) -> None:
    path = fitted_file(bert_folder, work, tmp_path / "p.safetensors")
    spec = f"{bert_folder}?layers=1,2&dtype=float32&pooling=tokens"
    plain, small = (identify(parse_encoder(spec + more), CPU) for more in ("", f"&projection={path}"))
    assert plain.key != small.key
    extract_features(TEXTS, small, work.store, CPU, QUIET)
    found = read_features(TEXTS, [small], work.store)[small.config.name]
    assert isinstance(found, TokenFeatures)
    assert found.values.dtype == np.int8
    for i, expected in enumerate(encode(load_encoder(small.config, CPU), TEXTS)):
        np.testing.assert_array_equal(found.values[found.offsets[i] : found.offsets[i + 1]], expected)
    assert list(work.store.verify(small.key)) == []


def test_another_projection_is_another_key(bert_folder: Path, work: RunContext, tmp_path: Path) -> None:
    path = fitted_file(bert_folder, work, tmp_path / "p.safetensors")
    config = parse_encoder(f"{bert_folder}?layers=1,2&dtype=float32&pooling=tokens&projection={path}")
    before = identify(config, CPU).key
    fitted_file(bert_folder, work, path, int8=False)
    assert identify(config, CPU).key != before


def test_a_projection_of_another_model_is_refused(
    bert_folder: Path, roberta_folder: Path, work: RunContext, tmp_path: Path
) -> None:
    path = fitted_file(bert_folder, work, tmp_path / "p.safetensors")
    for spec in (f"{bert_folder}?layers=1&pooling=mean", f"{roberta_folder}?layers=1,2&pooling=mean"):
        with pytest.raises(UsageError, match="another model or other layers"):
            load_encoder(parse_encoder(f"{spec}&projection={path}"), CPU)


def test_the_projection_goes_with_the_saved_classifier(bert_folder: Path, work: RunContext, tmp_path: Path) -> None:
    path = fitted_file(bert_folder, work, tmp_path / "p.safetensors")
    texts = [f"{text} {i}" for i in range(8) for text in TEXTS[:3]]
    classifier = FusionClassifier(
        encoders=[f"{bert_folder}?layers=1,2&dtype=float32&projection={path}"],
        store=tmp_path / "store",
        training={"max_epochs": 2},
    ).fit(texts, ["a", "b", "c"] * 8)
    classifier.save_pretrained(tmp_path / "model")
    before = classifier.predict_proba(TEXTS)
    path.unlink()
    (tmp_path / "model").rename(tmp_path / "moved")
    loaded = FusionClassifier.from_pretrained(tmp_path / "moved")
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), before, atol=1e-6)
    (tmp_path / "moved" / "projection-0.safetensors").unlink()
    with pytest.raises(FecError, match=r"projection-0\.safetensors.* is missing"):
        FusionClassifier.from_pretrained(tmp_path / "moved")


def test_nothing_to_do_is_an_error(bert_folder: Path, work: RunContext, tmp_path: Path) -> None:
    task, config = load_task(TaskConfig(name="demo")), parse_encoder(str(bert_folder), features="tokens")
    with pytest.raises(UsageError, match="changes nothing"):
        project(config, task, tmp_path / "p.safetensors", work, kind="none")
    with pytest.raises(UsageError, match=r"`out`.*\.safetensors"):
        project(config, task, tmp_path / "p.bin", work, width=4)
