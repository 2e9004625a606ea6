"""The commands of the original LLM-FusionClassifier, with its own flags, over this package.

    python llama2_rep_extract.py -device cuda -task ED -mode train
    python bert_rep_extract.py   -device cuda -task ED -mode train
    python roberta_rep_extract.py -device cuda -task ED -mode train
    python main.py -dataset ED -epochs 200 -SIGMA 1 -batch_size 10 -early-stop 10 -lr 1e-4

They read `data/<task>/<mode>.csv` as published. Features go to the feature store instead of a file each, so
nothing is encoded twice, and `main.py` finds them there.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from fusion_classifier.cli.main import main as fec

TRIO = ("llama2-7b-chat", "bert-large", "roberta-large")
# Our option for each flag of main.py that sets a hyper-parameter.
HYPER_PARAMETERS = {
    "-epochs": "--epochs",
    "-SIGMA": "--sigma",
    "-batch_size": "--batch-size",
    "-early-stop": "--patience",
    "-lr": "--lr",
}


def rep_extract(encoder: str, arguments: Sequence[str] | None = None) -> NoReturn:
    """`<encoder>_rep_extract.py`: extract the features of one split into the feature store."""
    parser = ArgumentParser(description="Extract the features of one split into the feature store.")
    parser.add_argument("-device", default="auto", help="cuda, cpu, mps or auto.")
    parser.add_argument("-task", default="ED", help="ED or go_emotion.")
    parser.add_argument("-mode", default="train", help="train, valid or test.")
    given = parser.parse_args(arguments)
    wanted = ["--split", given.mode, "--encoder", encoder, "--head", "llmembed"]
    fec(["extract", given.task, *_data(given.task), *wanted, *_device(given.device)])


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """`main.py`: train and evaluate the published classifier, with the published hyper-parameters."""
    parser = ArgumentParser(description="Train the published classifier and report its scores.")
    parser.add_argument("-dataset", default="ED", help="ED or go_emotion.")
    parser.add_argument("-device", default="auto", help="cuda, cpu, mps or auto.")
    parser.add_argument("-seeds", default="5", help="Number of runs.")
    for flag, option in HYPER_PARAMETERS.items():
        parser.add_argument(flag, dest=option, help=f"As {option} of fec run.")
    given = vars(parser.parse_args(arguments))
    changed = [word for option in HYPER_PARAMETERS.values() if given[option] for word in (option, given[option])]
    encoders = [word for name in TRIO for word in ("--encoder", name)]
    run = [
        "run",
        given["dataset"],
        *_data(given["dataset"]),
        *encoders,
        "--head",
        "llmembed",
        "--recipe",
        "published",
    ]
    fec([*run, "--seeds", given["seeds"], *_device(given["device"]), *changed])


def _data(task: str) -> list[str]:
    folder = Path("data") / task
    if not folder.is_dir():
        print(
            f"error: {folder}: no such folder; put the published train.csv, valid.csv and test.csv there",
            file=sys.stderr,
        )
        raise SystemExit(2)
    return ["--data", str(folder)]


def _device(name: str) -> list[str]:
    return ["--device", name.partition(":")[0]]  # cuda:0
