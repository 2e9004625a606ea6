"""`FusionClassifier`: raw texts in, labels out; scikit-learn's way of speaking.

clf = FusionClassifier(encoders=["minilm-l6", "smollm2-135m"], head="linear")
clf.fit(texts, labels)
clf.predict(["what a day!"])
clf.save_pretrained("my-model")
FusionClassifier.from_pretrained("my-model")
"""

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from huggingface_hub import HfApi, ModelHubMixin
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score

from fusion_classifier.classifier.card import PLACE, model_card
from fusion_classifier.classifier.explanation import MOST_SPANS, Explanation, explanations, occlude
from fusion_classifier.classifier.folder import (
    ModelConfig,
    SavedEncoder,
    checked_identities,
    find_model,
    labels_of,
    load_model,
    placed,
    read_card,
    save_model,
    saved_encoders,
    shared,
)
from fusion_classifier.classifier.inputs import Labels, check_texts, column, encode_labels, one_column
from fusion_classifier.config import DEFAULT_HEAD, Device, EncoderConfig
from fusion_classifier.encoders.device import resolve_device
from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.loading import LoadedEncoder, load_identified
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.encoders.tokenization import Side, is_truncated
from fusion_classifier.encoders.workers import batch_workers
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.features.arrays import from_arrays
from fusion_classifier.features.extract import extract_features, memory_for_features, open_splits
from fusion_classifier.features.hashing import hash_texts
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion.head import Head
from fusion_classifier.fusion.registry import parse_head
from fusion_classifier.support.hub import COMMIT_MESSAGE, hub_errors
from fusion_classifier.support.progress import QUIET, Progress
from fusion_classifier.tasks.loaded import Split, targets
from fusion_classifier.tasks.split import hold_out
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.loop import inference_batches, predict_logits, train

NOT_FITTED = "this FusionClassifier is not fitted yet: call fit or from_pretrained"
CHUNK_TEXTS = 1024  # texts encoded at once in prediction: bounds memory whatever the number of texts


class FusionClassifier(ClassifierMixin, ModelHubMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A text classifier on the fused features of frozen encoders.

    Args:
        encoders: encoders as on the command line (`minilm-l6`, `minilm-l6=PATH`, a Hub id, a folder, with
            settings `?pooling=tokens&layers=2,4,6`), or `EncoderConfig` values.
        head: `fusion`, `linear` or `llmembed`.
        recipe: `default` or `published` hyper-parameters.
        training: changes to the recipe, such as `{"learning_rate": 1e-4}` (fields of `TrainingConfig`).
        seed: of the start, the order of batches, dropout, and the validation rows held out.
        device: `auto`, `cpu`, `cuda` or `mps`.
        store: folder of the feature store; the user's cache unless given.
        keep_features: whether the texts of `predict`, too, go through the store, so that cross-validation and a grid
            search encode each text once. `from_pretrained` sets it to False: what a service reads is not kept.
        progress: whether to show progress bars on a terminal.

    Attributes:
        classes_: the labels, sorted, (C,).
        history_: one `Epoch` an epoch of training.
        card_: the model card, Markdown.
    """

    # Of the mixin: with a value it keeps no copy of the parameters in each instance, where scikit-learn has them.
    _hub_mixin_config: Any = {}  # noqa: RUF012

    def __init__(
        self,
        encoders: Sequence[str | EncoderConfig] = ("minilm-l6",),
        head: str = DEFAULT_HEAD,
        *,
        recipe: str = "default",
        training: Mapping[str, float] | None = None,
        seed: int = 0,
        device: Device = "auto",
        store: str | os.PathLike[str] | None = None,
        keep_features: bool = True,
        progress: bool = False,
    ) -> None:
        self.encoders = encoders
        self.head = head
        self.recipe = recipe
        self.training = training
        self.seed = seed
        self.device = device
        self.store = store
        self.keep_features = keep_features
        self.progress = progress

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        tags.classifier_tags.multi_label = True
        return tags

    def fit(
        self,
        X: Sequence[str],
        y: Labels,
        *,
        X_valid: Sequence[str] | None = None,
        y_valid: Labels | None = None,
    ) -> Self:
        """Extract features (from the store where they are there already) and train the head.

        Args:
            X: N texts: a list, a numpy array, a column of pandas or polars.
            y: N labels, all strings or all whole numbers. For a multi-label task N lists of strings, or an
                indicator matrix (N, C) of 0 and 1 with the labels 0 to C − 1.
            X_valid: texts for early stopping; a tenth of X, stratified, is held out unless given.
            y_valid: their labels.

        Raises:
            DataError: texts or labels that can't be used.
            UsageError, WeightsError, NonFiniteError: see the messages.
        """
        texts = check_texts(X, "X")
        self.classes_, labels = encode_labels(y, "y", len(texts))
        train_split = Split(tuple(texts), labels)
        if X_valid is None:
            splits = hold_out({"train": train_split}, self.seed, "X")
            train_split, valid_split = splits["train"], splits["valid"]
        else:
            valid_texts = check_texts(X_valid, "X_valid")
            if y_valid is None:
                raise DataError("y_valid: give the labels of X_valid")
            _, valid_labels = encode_labels(y_valid, "y_valid", len(valid_texts), self.classes_)
            valid_split = Split(tuple(valid_texts), valid_labels)

        device, progress = resolve_device(self.device), Progress() if self.progress else QUIET
        store = FeatureStore(self.store)
        specs = [self.encoders] if isinstance(self.encoders, str | EncoderConfig) else list(self.encoders)
        if not specs:
            raise UsageError("encoders: give at least one")
        head, settings = parse_head(self.head), recipe(self.recipe, self.head, **(self.training or {}))
        configs = [
            spec if isinstance(spec, EncoderConfig) else parse_encoder(spec, features=head.reads) for spec in specs
        ]
        identities = [identify(config, device) for config in configs]
        for identity in identities:
            extract_features(train_split.texts + valid_split.texts, identity, store, device, progress)
        parts = (train_split, valid_split)
        opened = open_splits([part.texts for part in parts], identities, store, memory_for_features())
        train_data, valid_data = (
            LabelledFeatures(features, targets(part.labels, len(self.classes_)))
            for part, features in zip(parts, opened, strict=True)
        )
        trained = train(
            head,
            settings,
            train_data,
            valid_data,
            len(self.classes_),
            self.seed,
            device,
            progress,
        )
        self.history_ = trained.history
        config = ModelConfig(
            task="own data",
            id2label=labels_of([str(label) for label in self.classes_]),
            label_type="int" if self.classes_.dtype.kind in "iu" else "str",
            head=head,
            encoders=saved_encoders(identities, train_data.shapes),
            seed=self.seed,
            decision=trained.decision,
        )
        self._restore(config, trained.head, model_card(config, training=settings))
        return self

    def _restore(self, config: ModelConfig, head: Head, card: str | None) -> None:
        """Become the trained classifier that these describe."""
        self.card_ = card or model_card(config)
        self.config_ = config
        self.head_ = head
        names = np.array(config.labels)
        self.classes_ = names.astype(np.int64) if config.label_type == "int" else names
        self._loaded: list[LoadedEncoder] | None = None

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "head_")

    def predict(self, X: Iterable[str]) -> np.ndarray:
        """The most probable label of each text: (N,), of the type that `fit` was given.

        Multi-label: an indicator matrix (N, C) of 0 and 1, columns as in `classes_`.
        """
        probabilities = self.predict_proba(X)  # checks first that there is a model
        answers = self.config_.decision.labels(probabilities)
        labels: np.ndarray = self.classes_[answers] if answers.ndim == 1 else answers
        return labels

    def predict_proba(self, X: Iterable[str]) -> np.ndarray:
        """The calibrated probability of each label: (N, C), float32, columns as in `classes_`.

        Raises:
            DataError: an empty text, or something that is none.
        """
        parts = list(self.predict_proba_stream(X))  # checks first that there is a model
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes_)), dtype=np.float32)

    def predict_proba_stream(self, X: Iterable[str]) -> Generator[np.ndarray]:
        """`predict_proba` in chunks of up to 1,024 texts, in order and in constant memory."""
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(NOT_FITTED)
        iterator = iter(one_column(X, "X"))
        while chunk := list(islice(iterator, CHUNK_TEXTS)):
            yield self.config_.decision.probabilities(self._logits(self._encoded(check_texts(chunk, "X"))))

    def predict_logits(self, X: Sequence[str], side: Side = "right") -> torch.Tensor:
        """What the head says of each text before calibration: (N, C), float32, on the CPU; all in memory at once.

        Args:
            X: N texts.
            side: where a text that is too long for an encoder is cut: it loses its end (right) or its start (left).

        Raises:
            DataError: an empty text, or something that is none.
        """
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(NOT_FITTED)
        texts = check_texts(X, "X")
        return self._logits([(encoder.config, encode(encoder, texts, side)) for encoder in self.load_encoders()])

    def _logits(self, encoded: Sequence[tuple[EncoderConfig, list[np.ndarray]]]) -> torch.Tensor:
        """The head's logits of encoded texts: (N, C)."""
        device, count = resolve_device(self.device), len(encoded[0][1])
        head, logits = self.head_.to(device), torch.empty((count, len(self.classes_)))
        tokens = [[len(array) for array in arrays] for config, arrays in encoded if config.pooling == "tokens"]
        batches = list(inference_batches(np.sum(tokens, axis=0) if tokens else None, count, device))

        def predicted(rows: np.ndarray) -> torch.Tensor:
            # Put together here: a copy of all token states at once would go through the main memory.
            features = {
                config.name: from_arrays([arrays[row] for row in rows], ragged=config.pooling == "tokens")
                for config, arrays in encoded
            }
            return predict_logits(head, features, len(rows), device)

        with batch_workers(device) as (executor, _):
            # A single batch has all cores, as with the encoders.
            done = executor.map(predicted, batches) if len(batches) > 1 else map(predicted, batches)
            for rows, part in zip(batches, done, strict=True):
                logits[torch.from_numpy(rows)] = part
        return logits

    def explain(self, text: str, label: str | int | None = None, *, most_spans: int = MOST_SPANS) -> Explanation:
        """Which words of a text carry a label: each left out in turn (docs/explain.md).

        Args:
            text: the text.
            label: one of `classes_`; the most probable unless given.
            most_spans: parts of the text at most; of more words neighbours are left out together.

        Raises:
            DataError: an empty text.
            UsageError: a label that the classifier does not have.
        """
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(NOT_FITTED)
        names = self.config_.labels
        if label is not None and str(label) not in names:
            raise UsageError(f"label {str(label)!r}: the classifier has {', '.join(names)}")
        every = self.explain_labels(text, most_spans=most_spans)
        return every[0] if label is None else next(one for one in every if one.label == str(label))

    def explain_labels(self, text: str, *, most_spans: int = MOST_SPANS) -> tuple[Explanation, ...]:
        """`explain` for every label, the most probable first; costs as much as for one."""
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(NOT_FITTED)

        def cut(part: str) -> bool:
            return all(is_truncated(encoder, part) for encoder in self.load_encoders())

        occlusion = occlude(text, cut, most_spans)
        log_odds = self.config_.decision.log_odds(self.predict_logits(occlusion.texts))
        return explanations(occlusion, log_odds, self.config_.labels)

    def _encoded(self, texts: list[str]) -> list[tuple[EncoderConfig, list[np.ndarray]]]:
        """Each encoder's features, an array a text; through the store where features are to be kept."""
        if not self.keep_features:
            return [(encoder.config, encode(encoder, texts)) for encoder in self.load_encoders()]
        device, store = resolve_device(self.device), FeatureStore(self.store)
        encoded: list[tuple[EncoderConfig, list[np.ndarray]]] = []
        for number, identity in enumerate(checked_identities(self.config_.encoders, device)):
            extract_features(texts, identity, store, device, QUIET, load=partial(self._encoder, number))
            features = store.of(identity).read(hash_texts(texts))
            encoded.append((identity.config, features.arrays))
        return encoded

    def score(self, X: Iterable[str], y: Labels, sample_weight: Sequence[float] | None = None) -> float:
        """Accuracy on N texts and their labels as `fit` takes them; multi-label: of all labels of a text."""
        answers = self.predict(X)
        if answers.ndim == 2:
            _, labels = encode_labels(y, "y", len(answers), self.classes_)
            y = targets(labels, len(self.classes_))
        return float(accuracy_score(column(y), answers, sample_weight=sample_weight))

    def _encoder(self, number: int, *_: object) -> LoadedEncoder:
        return self.load_encoders()[number]

    def load_encoders(self) -> list[LoadedEncoder]:
        """The encoders, loaded at the first call and kept."""
        if self._loaded is None:
            device = resolve_device(self.device)
            self._loaded = [
                load_identified(identity, device) for identity in checked_identities(self.config_.encoders, device)
            ]
        return self._loaded

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        config: Any = None,  # noqa: ARG002 - of the mixin's contract
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Write the trained classifier in one step: `config.json`, `model.safetensors` and its card, without code.

        Args:
            save_directory: a folder; what it holds is replaced.
            config: not heeded; the mixin passes it.
            repo_id: where to upload it; the folder's name unless given.
            push_to_hub: whether to upload it, too.
            model_card_kwargs: `place`: where the card says that the model lies.
            push_to_hub_kwargs: as `push_to_hub` takes them.

        Returns:
            The address of the upload, or None.

        Raises:
            NotFittedError: there is nothing to write yet.
            FecError: it can't be written, or not uploaded.
        """
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("this FusionClassifier is not fitted yet: call fit first")
        place = (model_card_kwargs or {}).get("place")
        folder = Path(save_directory)
        if place is None:
            save_model(folder, self.config_, self.head_, self.card_)
        else:
            save_model(folder, shared(self.config_), self.head_, self.card_.replace(PLACE, place))
        return self.push_to_hub(repo_id or folder.name, **push_to_hub_kwargs) if push_to_hub else None

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save_pretrained(save_directory)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = COMMIT_MESSAGE,
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
        create_pr: bool | None = None,
        **mixin: Any,
    ) -> str:
        """Upload the trained classifier with its card, all files in one commit.

        Args:
            repo_id: `owner/model`, or `model` of your own; made where it is not there.
            commit_message: its first line.
            private: whether a new repository is; the account's default unless given.
            token: of the Hub; that of `hf auth login` unless given.
            revision: branch; `main` unless given.
            create_pr: open a pull request instead.
            mixin: what else `ModelHubMixin.push_to_hub` takes, such as `delete_patterns`.

        Returns:
            The address of the commit.

        Raises:
            NotFittedError: there is nothing to upload yet.
            FecError: the Hub can't be reached, or says no.
        """
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("this FusionClassifier is not fitted yet: call fit first")
        revision = mixin.pop("branch", None) or revision
        with hub_errors(repo_id, revision, uploading=True):
            repo = HfApi(token=token).create_repo(repo_id, private=private, exist_ok=True).repo_id
            commit = super().push_to_hub(
                repo,
                commit_message=commit_message,
                private=private,
                token=token,
                branch=revision,
                create_pr=create_pr,
                **mixin | {"model_card_kwargs": {"place": repo}},
            )
        return str(getattr(commit, "pr_url", None) or getattr(commit, "commit_url", commit))

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        device: Device = "auto",
        encoder_paths: Mapping[str, str] | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        **mixin: Any,
    ) -> Self:
        """Read a classifier that `save_pretrained`, `push_to_hub` or `fec run` has written.

        Args:
            pretrained_model_name_or_path: a model folder, a run folder, a model that comes with the package, or a
                Hub id; in this order.
            device: `auto`, `cpu`, `cuda` or `mps`.
            encoder_paths: places of the encoders' weights, by encoder name.
            revision: branch, tag or commit on the Hub; its default branch unless given.
            token: of the Hub; that of `hf auth login` unless given.
            cache_dir: where downloads lie; huggingface-hub's cache unless given.
            force_download: download what is there already.
            local_files_only: ask no Hub.
            mixin: nothing more is taken.

        Raises:
            FecError: it can't be had, or is not a model.
        """
        return cls._from_pretrained(
            model_id=os.fspath(pretrained_model_name_or_path),
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
            device=device,
            encoder_paths=encoder_paths,
            **mixin,
        )

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | os.PathLike[str] | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        device: Device = "auto",
        encoder_paths: Mapping[str, str] | None = None,
        **unknown: Any,
    ) -> Self:
        if unknown:
            raise TypeError(f"from_pretrained: no argument {next(iter(unknown))!r}")
        folder = find_model(
            model_id,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )
        saved = load_model(folder)
        encoders = tuple(
            SavedEncoder.model_validate(one.model_dump() | {"config": placed(one, encoder_paths or {}).model_dump()})
            for one in saved.config.encoders
        )
        config = saved.config.model_copy(update={"encoders": encoders})
        classifier = cls(
            encoders=[one.config for one in encoders],
            head=config.head.name,
            seed=config.seed,
            device=device,
            keep_features=False,
        )
        classifier._restore(config, saved.head, read_card(folder))
        return classifier

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {key: value for key, value in state.items() if key != "_loaded"} | {"_loaded": None}
