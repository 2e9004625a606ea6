"""POST /explain: weights of words for a label. The words are removed in turn, in one batch of the queue.

{"inputs": "a text", "labels": ["joy"]}    [{"label", "probability", "words": [{"text", "start", "end", "weight"}]}]
"""

from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from fusion_classifier.classifier.explanation import MAX_SPANS, Occlusion, explanations, occlude
from fusion_classifier.serving.errors import RESPONSES, ErrorResponse, ServiceError
from fusion_classifier.serving.schemas import Text
from fusion_classifier.serving.service import ServiceDep

router = APIRouter()
UNKNOWN_LABEL: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorResponse, "description": "The model has no such label"}
}


class ExplainRequest(BaseModel):
    """A text to explain."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    inputs: Text = Field(examples=["I am so grateful to the driver."])
    """The text."""
    labels: list[str] | None = None
    """Labels to explain. Default: all, at no additional cost."""
    truncate: bool | None = Field(default=None, examples=[False])
    """Explain the beginning of a text that is too long instead of rejecting it."""


class ExplainedWord(BaseModel):
    """A word or, in a long text, neighbouring words."""

    text: str
    start: int = Field(description="Position of its first character in the text, counted in code points")
    end: int = Field(description="Position after its last character")
    weight: float = Field(description="Decrease of the label's log-odds without it")


class LabelExplanation(BaseModel):
    """The weight of each word for a label."""

    label: str
    probability: float
    words: list[ExplainedWord]


@router.post("/explain", response_model=list[LabelExplanation], responses={**RESPONSES, **UNKNOWN_LABEL})
async def explain(body: ExplainRequest, request: Request, service: ServiceDep) -> Any:
    """Explain which words of a text support each label, the most probable label first."""
    model, text, truncate = service.model, body.inputs, service.truncates(body.truncate)
    service.check_text(text)
    wanted = model.labels if body.labels is None else body.labels
    if not set(wanted) <= set(model.labels):
        raise ServiceError("NotFound", "`labels` contains names that are not labels of the model (see /info)")
    # As many texts as one request may have: the whole, and those without a part.
    most = max(1, min(MAX_SPANS, service.settings.max_client_batch_size - 1))

    def planned() -> Occlusion:
        model.lengths([text], truncate=truncate)  # rejects a text that is too long
        return occlude(text, model.is_cut if truncate else lambda _: False, most)

    occlusion = await service.with_tokenizers(planned)
    scores = await service.scores(request, occlusion.texts, truncate=truncate)
    logits = np.stack([one.logits for one in scores])
    decision = model.classifier.config_.decision
    found = explanations(occlusion, decision.log_odds(logits), model.labels, decision)
    return [one for one in found if one.label in wanted]
