"""The commands of the original LLM-FusionClassifier, with its own flags, on top of this package.

    python llama2_rep_extract.py -device cuda -task ED -mode train
    python bert_rep_extract.py   -device cuda -task ED -mode train
    python roberta_rep_extract.py -device cuda -task ED -mode train
    python main.py -dataset ED -epochs 200 -SIGMA 1 -batch_size 10 -early-stop 10 -lr 1e-4

They read `data/<task>/<mode>.csv` next to the script, else in the current folder. Features go to the feature store
instead of a file each, so nothing is encoded twice, and `main.py` finds them there. Flags that the original lacks
begin with two dashes, so that the original's abbreviations keep their meaning: only `-seeds` has one.
"""

import os
import sys
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from fusion_classifier.cli.main import main as fec
from fusion_classifier.config import LlmEmbedConfig
from fusion_classifier.training.defaults import PUBLISHED

LLAMAS = ("llama2-7b-chat", "llama2-7b")
# Where the original wrote the features of each encoder; main.py reads llama2_7b_chat, which its extraction misspells.
FOLDERS = {
    "llama2-7b-chat": "llama2_7b_chat",
    "llama2-7b": "llama2_7b",
    "bert-large": "bert",
    "roberta-large": "roberta",
}
DEVICE = "Device: auto, cpu, mps, cuda, or one of several GPUs, such as cuda:1."
LLAMA = "Which Llama-2."


def rep_extract(encoder: str, root: Path, arguments: Sequence[str] | None = None) -> NoReturn:
    """`<encoder>_rep_extract.py`: extract the features of one split into the feature store."""
    fec(extraction_of(encoder, root, arguments))


def main(root: Path, arguments: Sequence[str] | None = None) -> NoReturn:
    """`main.py`: train and evaluate the published classifier, with the published hyper-parameters."""
    fec(training_of(root, arguments))


def extraction_of(encoder: str, root: Path, arguments: Sequence[str] | None = None) -> list[str]:
    """The arguments of `fec` for those of `<encoder>_rep_extract.py`, a script in the folder `root`."""
    parser = _parser("Extract the features of one split into the feature store.")
    parser.add_argument("-device", default="auto", help=DEVICE)
    parser.add_argument("-task", default="ED", help="Data set: ED or go_emotion.")
    parser.add_argument("-mode", default="train", choices=("train", "valid", "test"), help="Split.")
    if encoder in LLAMAS:
        parser.add_argument("--llama", default=encoder, choices=LLAMAS, help=LLAMA)
    parser.add_argument(
        "--pt",
        action="store_true",
        help="Also write the files of the original, data/TASK/dataset_tensor/MODEL/MODE_sents and _labels, as "
        ".safetensors.",
    )
    given = parser.parse_args(arguments)
    name = getattr(given, "llama", encoder)
    data = _data(root, given.task)
    place = [given.task, "--data", str(data), "--split", given.mode]
    wanted = [*place, "--encoder", name, *_device(parser, given.device)]
    if not given.pt:
        return ["extract", *wanted, "--head", "llmembed"]
    return ["export", *wanted, "--original", "--out", str(data / "dataset_tensor" / FOLDERS[name])]


def training_of(root: Path, arguments: Sequence[str] | None = None) -> list[str]:
    """The arguments of `fec` for those of `main.py`, a script in the folder `root`."""
    parser = _parser("Train the published classifier and report its scores.")
    parser.add_argument("-device", default="auto", help=DEVICE)
    parser.add_argument("-dataset", default="ED", help="Data set: ED or go_emotion.")
    parser.add_argument("-epochs", type=int, default=PUBLISHED.max_epochs, help="Maximum number of epochs.")
    parser.add_argument(
        "-SIGMA", type=float, default=LlmEmbedConfig().sigma, help="Slope of the power normalization."
    )
    parser.add_argument("-batch_size", type=int, default=PUBLISHED.batch_size, help="Batch size.")
    parser.add_argument(
        "-early-stop",
        type=int,
        default=PUBLISHED.patience,
        help="Number of epochs without a lower validation loss or a higher F1 after which training stops.",
    )
    parser.add_argument("-lr", type=float, default=PUBLISHED.learning_rate, help="Learning rate.")
    parser.add_argument("-seeds", type=int, default=5, help="Number of runs; the original does one.")
    parser.add_argument("--llama", default=LLAMAS[0], choices=LLAMAS, help=LLAMA)
    given = parser.parse_args(arguments)
    encoders = (given.llama, "bert-large", "roberta-large")
    options = {
        "--head": "llmembed",
        "--recipe": "published",
        "--epochs": given.epochs,
        "--sigma": given.SIGMA,
        "--batch-size": given.batch_size,
        "--patience": given.early_stop,
        "--lr": given.lr,
        "--seeds": given.seeds,
    }
    return [
        *("run", given.dataset, "--data", str(_data(root, given.dataset))),
        *(word for name in encoders for word in ("--encoder", name)),
        *(str(word) for option in options.items() for word in option),
        *_device(parser, given.device),
    ]


def _parser(description: str) -> ArgumentParser:
    return ArgumentParser(description=description, formatter_class=ArgumentDefaultsHelpFormatter)


def _data(root: Path, task: str) -> Path:
    """The folder with the published files."""
    folder = Path("data") / task
    places = list(dict.fromkeys((Path(os.path.relpath(root)) / folder, folder)))
    for place in places:
        if place.is_dir():
            return place
    print(
        f"error: {' or '.join(map(str, places))}: no such folder; put the published train.csv, valid.csv and "
        "test.csv there",
        file=sys.stderr,
    )
    raise SystemExit(2)


def _device(parser: ArgumentParser, name: str) -> list[str]:
    """The option for a device. Of several GPUs, the others are hidden from this process."""
    kind, colon, number = name.partition(":")
    if kind == "cuda" and colon:
        visible = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
        if not number.isdigit() or (visible and int(number) >= len(visible)):
            parser.error(f"argument -device: no GPU {name!r}; use cuda:0 or the number of another GPU")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[int(number)] if visible else number
    return ["--device", kind]
