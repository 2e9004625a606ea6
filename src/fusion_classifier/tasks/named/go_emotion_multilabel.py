"""GoEmotions as released: any number of 28 labels per comment, neutral among them.

Source: Demszky et al.: GoEmotions, A Dataset of Fine-Grained Emotions, ACL 2020,
https://arxiv.org/abs/2005.00547, official split (43,410 / 5,426 / 5,427 rows). Data CC BY 4.0.

A folder has the release's files: train.tsv, dev.tsv, test.tsv without a header. A row is text, label numbers
separated by commas, comment id; fields are quoted as in CSV.
"""

from dataclasses import replace

from fusion_classifier.tasks.emotions import CAVEAT, EXAMPLES
from fusion_classifier.tasks.named.go_emotion import HUB, GoEmotion
from fusion_classifier.tasks.task import Task


class GoEmotionMultilabel(Task):
    """GoEmotions with any number of labels per text."""

    name = "go_emotion_multilabel"
    title = "GoEmotions as released: Reddit comments with any of 28 emotions"
    licence = GoEmotion.licence
    language = "en"
    examples = EXAMPLES
    caveat = CAVEAT
    labels = (*GoEmotion.labels, "neutral")
    multilabel = True
    header = ("text", "label", "id")
    hub = replace(HUB, label_column="labels")
