"""Where a store is: a folder, or object storage on a server that speaks S3."""

from pathlib import Path

import numpy as np
import pytest

from fusion_classifier.config import EncoderConfig
from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.encoders.weights import Weights
from fusion_classifier.errors import StoreError, UsageError
from fusion_classifier.features.arrays import FeatureShape, PooledFeatures
from fusion_classifier.features.hashing import hash_texts
from fusion_classifier.features.store import FeatureStore

POOLED = FeatureShape((2, 3), ragged=False)
HASHES = hash_texts([f"text {i}" for i in range(60)])
ARRAYS = [np.full((2, 3), i, dtype=np.float32) for i in range(60)]


@pytest.fixture
def identity() -> EncoderIdentity:
    config = EncoderConfig(name="some-encoder", model="some-encoder")
    return EncoderIdentity(config, Weights(Path("nowhere"), None, "path"), "f0", "float32")


def test_a_store_in_object_storage_does_all_of_it(identity: EncoderIdentity, bucket: str) -> None:
    store = FeatureStore(f"{bucket}/some/prefix")
    assert store.keys() == []
    assert store.of(identity).append(HASHES[:40], ARRAYS[:40], POOLED) == 40
    assert store.of(identity).append(HASHES, ARRAYS, POOLED) == 20
    order = np.random.default_rng(0).permutation(60)
    read = FeatureStore(f"{bucket}/some/prefix/").of(identity).read(HASHES[order])
    assert isinstance(read, PooledFeatures)
    np.testing.assert_array_equal(read.values, np.stack(ARRAYS)[order])
    (entry,) = store.entries()
    assert (entry.encoder, entry.rows) == ("some-encoder", 60)
    assert entry.bytes > 0
    assert not list(store.verify(identity.key))
    store.delete(identity.key)
    assert store.keys() == []
    assert store.of(identity).contains(HASHES[:2]).sum() == 0


@pytest.mark.parametrize(("name", "says"), [("gs://a/b", "s3://BUCKET"), ("s3://id:secret@a/b", "environment")])
def test_a_store_is_a_folder_or_prefix_without_credentials(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        FeatureStore(name)
    assert "secret" not in str(caught.value)


def test_a_missing_bucket_is_named_without_credentials(identity: EncoderIdentity, bucket: str) -> None:
    assert bucket
    with pytest.raises(StoreError, match="no-such-bucket") as caught:
        FeatureStore("s3://no-such-bucket/x").of(identity).append(HASHES, ARRAYS, POOLED)
    assert "a-secret" not in str(caught.value)
