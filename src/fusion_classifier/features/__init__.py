"""Features: what encoders made of texts, kept in the store."""

from fusion_classifier.features.arrays import (
    Features,
    FeatureShape,
    PooledFeatures,
    TokenFeatures,
    TokenStates,
    from_arrays,
)
from fusion_classifier.features.extract import (
    ExtractionReport,
    extract_features,
    memory_for_features,
    open_features,
    open_splits,
    read_features,
)
from fusion_classifier.features.hashing import hash_texts
from fusion_classifier.features.store import FeatureStore, StoreEntry, default_store
from fusion_classifier.features.stored import StoredFeatures

__all__ = [
    "ExtractionReport",
    "FeatureShape",
    "FeatureStore",
    "Features",
    "PooledFeatures",
    "StoreEntry",
    "StoredFeatures",
    "TokenFeatures",
    "TokenStates",
    "default_store",
    "extract_features",
    "from_arrays",
    "hash_texts",
    "memory_for_features",
    "open_features",
    "open_splits",
    "read_features",
]
