"""Saving, sharing and loading of a trained classifier, for both estimators."""

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from huggingface_hub import ModelHubMixin

from fusion_classifier.classifier.card import PLACE, model_card
from fusion_classifier.classifier.folder import (
    ModelConfig,
    SavedModel,
    load_model,
    objects_note,
    read_card,
    save_model,
)
from fusion_classifier.classifier.models import check_replaceable, find_model, is_optimized
from fusion_classifier.classifier.saved_encoders import without_places
from fusion_classifier.classifier.text_classifier import RejectsUnknown
from fusion_classifier.config import Device
from fusion_classifier.errors import UsageError
from fusion_classifier.fusion.head import Head
from fusion_classifier.support.hub import COMMIT_MESSAGE, hub_errors
from fusion_classifier.support.warn import warn_caller
from fusion_classifier.training.known import KnownTexts

Paths = Mapping[str, str]  # places of weights by encoder name
Objects = Mapping[str, Any]  # encoders that are Python objects, by name


class PretrainedClassifier(RejectsUnknown, ModelHubMixin):
    """A classifier that can be saved in a folder, uploaded, and loaded.

    Attributes:
        classes_: Labels, (C,).
        config_: Content of `config.json`.
        head_: Trained head, a torch module.
        card_: Model card, Markdown.
        known_: Statistics for detecting unknown texts; None if not fitted.
    """

    # With a value the mixin keeps no copy of the parameters in each instance, which would disturb sklearn's clone.
    _hub_mixin_config: Any = {}  # noqa: RUF012

    config_: ModelConfig
    head_: Head
    card_: str

    def _restore(self, config: ModelConfig, head: Head, card: str, known: KnownTexts | None = None) -> None:
        """Set the fitted attributes."""
        self.config_, self.head_, self.card_, self.classes_ = config, head, card, config.classes
        self.known_ = known

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Write the trained classifier atomically: `config.json`, the head and a card, without code.

        Encoders are not in the folder, nor is the code of encoders that are Python objects or of your own torch
        modules: a warning explains how to load such a classifier.

        Args:
            save_directory: Folder; an existing model is replaced.
            repo_id: Hub id to upload to. Default: the folder's name.
            push_to_hub: Whether to upload it as well. Default: False.
            push_to_hub_kwargs: Arguments of `push_to_hub`.

        Returns:
            Address of the upload, or None.

        Raises:
            NotFittedError: There is nothing to write yet.
            UsageError: The folder contains anything but a model.
            FecError: The folder can't be written or uploaded.
        """
        self._check_fitted()
        folder = Path(save_directory)
        check_replaceable(folder, "save_directory")
        save_model(folder, self.config_, self.head_, self.card_, known=self.known_)
        if note := objects_note(self.config_):
            warn_caller(f"{folder} {note}")
        return self.push_to_hub(repo_id or folder.name, **push_to_hub_kwargs) if push_to_hub else None

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = COMMIT_MESSAGE,
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
        create_pr: bool | None = None,
        **options: Any,
    ) -> str:
        """Upload the trained classifier with its card, all files in one commit.

        Args:
            repo_id: `owner/model`, or `model` of your own; created if it does not exist.
            commit_message: First line of the commit.
            private: Whether a new repository is private. Default: the account's.
            token: Token of the Hub. Default: that of `hf auth login`.
            revision: Branch. Default: main.
            create_pr: Whether to open a pull request instead. Default: False.
            options: Further arguments of huggingface-hub's `upload_folder`, such as `delete_patterns`.

        Returns:
            Address of the commit.

        Raises:
            NotFittedError: There is nothing to upload yet.
            FecError: The Hub can't be reached, or rejects the upload.
        """
        self._check_fitted()
        from huggingface_hub import HfApi  # noqa: PLC0415 - its client takes a while to import

        revision = options.pop("branch", None) or revision
        with hub_errors(repo_id, revision, uploading=True), TemporaryDirectory() as temporary:
            api, folder = HfApi(token=token), Path(temporary) / "model"
            repo = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            card = self.card_.replace(PLACE, repo)
            save_model(folder, without_places(self.config_), self.head_, card, known=self.known_)
            commit = api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                commit_message=commit_message,
                revision=revision,
                create_pr=create_pr,
                **options,
            )
        return str(commit.pr_url or commit.commit_url)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # of the mixin's parameters only those that have a meaning
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        device: Device = "auto",
        encoder_paths: Paths | None = None,
        encoders: Objects | None = None,
        head: object = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
    ) -> Self:
        """Load a classifier written by `save_pretrained`, `push_to_hub` or `fec run`.

        Args:
            pretrained_model_name_or_path: A model folder, a run folder, a model that comes with the package, or a Hub
                id; in this order.
            device: `auto`, `cpu`, `cuda` or `mps`. Default: auto.
            encoder_paths: Paths of the encoders' weights by encoder name. Default: the recorded ones.
            encoders: Encoders that are Python objects, by name; a model with such encoders needs them.
            head: Your torch module or its class, if the head was one.
            revision: Branch, tag or commit on the Hub. Default: the default branch.
            token: Token of the Hub. Default: that of `hf auth login`.
            cache_dir: Folder of downloads. Default: huggingface-hub's cache.
            force_download: Whether to download files that are already cached. Default: False.
            local_files_only: Whether to use only local files. Default: False.

        Returns:
            A classifier; for a folder written by `fec optimize`, an `OptimizedClassifier`, which can't be fitted.

        Raises:
            FecError: It can't be read, is not a model, or reads the inputs of the other class.
        """
        folder = find_model(
            pretrained_model_name_or_path,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
        )
        if is_optimized(folder):
            return cls._optimized(folder, device)  # type: ignore[no-any-return]  # of another class, as documented
        saved = load_model(folder, head)
        card = read_card(folder) or model_card(saved.config)
        return cls._of(saved, card, str(folder), device, encoder_paths or {}, encoders or {})

    @classmethod
    def _optimized(cls, folder: Path, device: Device) -> Any:  # noqa: ARG003
        """The classifier of an optimized model."""
        raise UsageError(f"{folder} reads texts, not features; use FusionClassifier.from_pretrained")

    @classmethod
    def _of(cls, saved: SavedModel, card: str, name: str, device: Device, paths: Paths, encoders: Objects) -> Self:
        """The classifier of a model folder."""
        raise NotImplementedError
