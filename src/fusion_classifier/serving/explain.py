"""POST /explain: which words of a text carry a label; the words are left out in turn, in one batch of the queue.

{"inputs": "a text", "labels": ["joy"]}    [{"label", "probability", "words": [{"text", "start", "end", "weight"}]}]
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
import torch
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, field_validator

from fusion_classifier.classifier.explanation import MOST_SPANS, Occlusion, explanations, occlude
from fusion_classifier.config import ServerSettings
from fusion_classifier.serving.model import Scores, ServedModel
from fusion_classifier.serving.schemas import ErrorResponse, ServiceError, Text


class Scored(Protocol):
    """`serving.app.scored`."""

    def __call__(
        self, request: Request, texts: list[str], *, truncate: bool, side: Any, batch: bool = False
    ) -> Awaitable[list[Scores]]:
        """The scores of texts, through the queue."""


class ExplainRequest(BaseModel):
    """A text to explain."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    inputs: Text = Field(examples=["I am so grateful to the driver."])
    """The text."""
    labels: list[str] | None = None
    """The labels whose words are asked for; all unless given, which costs no more."""
    truncate: bool | None = Field(default=None, examples=[False])
    """Read the beginning of a text that is too long instead of refusing it."""

    @field_validator("inputs")
    @classmethod
    def _is_unicode(cls, value: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("half a surrogate pair is no valid Unicode") from None
        return value


class ExplainedWord(BaseModel):
    """A word, or in a long text neighbouring ones."""

    text: str
    start: int = Field(description="First character in the text, counted in code points")
    end: int = Field(description="The character behind its last")
    weight: float = Field(description="What the label's log-odds lose without it")


class LabelExplanation(BaseModel):
    """What each word does for a label."""

    label: str
    probability: float
    words: list[ExplainedWord]


def add_explain(app: FastAPI, scored: Scored, errors: dict[int | str, dict[str, Any]]) -> None:
    """Add the route."""
    model: ServedModel = app.state.model
    settings: ServerSettings = app.state.settings

    unknown_label: dict[str, Any] = {"model": ErrorResponse, "description": "The model has no such label"}

    @app.post("/explain", response_model=list[LabelExplanation], responses={**errors, 404: unknown_label})
    async def explain(body: ExplainRequest, request: Request) -> Any:
        """Say which words of a text carry a label, by falling probability of the labels."""
        if not body.inputs.strip():
            raise ServiceError("Empty", "`inputs` cannot be empty")
        if len(body.inputs) > settings.max_text_characters:  # before it is taken apart
            raise ServiceError(
                "Validation", f"`inputs` must have at most {settings.max_text_characters} characters a text"
            )
        unknown = next((label for label in body.labels or () if label not in model.labels), None)
        if unknown is not None:
            raise ServiceError("NotFound", "labels: not all of them are labels of the model (see /info)")
        truncate = settings.auto_truncate if body.truncate is None else body.truncate
        # One request's worth of texts, the whole and those without a part.
        most = max(1, min(MOST_SPANS, settings.max_client_batch_size - 1))

        def planned() -> Occlusion:
            model.lengths([body.inputs], truncate=truncate)  # too long: said before it is taken apart
            return occlude(body.inputs, (lambda text: _cut(model, text)) if truncate else lambda _: False, most)

        occlusion = await asyncio.get_running_loop().run_in_executor(request.app.state.tokenizing, planned)
        texts = list(occlusion.texts)
        size = settings.max_client_batch_size
        scores: list[Scores] = []
        for start in range(0, len(texts), size):  # more than one only where a request may hold but one text
            part = texts[start : start + size]
            scores += await scored(request, part, truncate=truncate, side="right", batch=True)
        log_odds = log_odds_of(model, scores)
        wanted = set(body.labels if body.labels is not None else model.labels)
        found = [one for one in explanations(occlusion, log_odds, model.labels) if one.label in wanted]
        return JSONResponse(
            [
                {"label": one.label, "probability": one.probability, "words": [asdict(word) for word in one.words]}
                for one in found
            ]
        )


def log_odds_of(model: ServedModel, scores: Sequence[Scores]) -> np.ndarray:
    """Log-odds of all labels: (N, C), float64."""
    logits = torch.from_numpy(np.stack([one.logits for one in scores]))
    return model.classifier.config_.decision.log_odds(logits)


def _cut(model: ServedModel, text: str) -> bool:
    """Whether all encoders cut the text; in the tokenizers' thread."""
    for encoder, tokenizer in zip(model.encoders, model.tokenizers, strict=True):
        for template in encoder.config.templates:
            ids = tokenizer(template.replace("{text}", text), truncation=False, verbose=False)["input_ids"]
            if len(ids) <= encoder.config.max_length:
                return False
    return True
