"""CPU time at startup: commands that print a table, the import of `FusionClassifier`, and a cold prediction.

    python benchmarks/speed/imports.py
    python benchmarks/speed/imports.py --source ../before/src --source src --rounds 5

Each subject runs in a separate process, alternately; the median of user plus system seconds is printed. Tables are
compared with `fec --help` (at most 2 times). `FusionClassifier` and `fec predict TEXT` are compared (at most 1.2
times) with a program that does only the unavoidable: `import torch`, `from transformers import AutoModel`, and
loading the weights of the same encoders. `--source` gives folders to compare.

The file and digest caches are warm: the first round is not counted. One thread.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from fusion_classifier.config import EncoderConfig
from fusion_classifier.encoders.gguf import unpacked
from fusion_classifier.encoders.identity import identify

HERE = Path(__file__).parents[2] / "src"
FEC = ["-m", "fusion_classifier"]
SUBJECTS = {
    "fec --help": [*FEC, "--help"],
    "fec tasks": [*FEC, "tasks"],
    "fec encoders": [*FEC, "encoders"],
    "fec models": [*FEC, "models"],
    "fec store": [*FEC, "store", "--store", "STORE"],
    "import FusionClassifier": ["-c", "from fusion_classifier import FusionClassifier"],
    'fec predict "text"': [*FEC, "predict", "text"],
}
TABLES = ("fec --help", "fec tasks", "fec encoders", "fec models", "fec store")
REFERENCE = "torch, AutoModel, weights"
MODEL = "fusion_classifier/classifier/builtin/go-emotions/config.json"


def reference() -> list[str]:
    """The program that imports torch and AutoModel and loads the encoders of the package's own model."""
    program = ["import torch", "from transformers import AutoModel"]
    device = torch.device("cpu")
    for saved in json.loads((HERE / MODEL).read_text("utf-8"))["encoders"]:
        identity = identify(EncoderConfig.model_validate(saved["config"]), device)
        folder = identity.weights.folder
        if identity.weights.gguf_file is not None:  # both sides read the safetensors written on first use
            folder = unpacked(identity.weights, identity.fingerprint, identity.dtype) or folder
        program.append(f"AutoModel.from_pretrained({str(folder)!r}, dtype=torch.{identity.dtype})")
    return ["-c", "\n".join(program)]


def seconds(arguments: list[str], source: Path) -> float:
    """User plus system seconds of a process, including its children."""
    environment = os.environ | {"PYTHONPATH": str(source), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(arguments)}: exit code {process.returncode}\n{said.read().decode()}")
    return used.ru_utime + used.ru_stime


def measure(sources: list[Path], rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds for every subject and source folder."""
    with tempfile.TemporaryDirectory() as place:
        store = str(Path(place) / "store")
        extract = ["extract", "demo", "--split", "test", "--encoder", "minilm-l6", "--store", store]
        seconds([*FEC, *extract], HERE)
        runs = {
            (str(source), name): ([store if word == "STORE" else word for word in words], source)
            for source in sources
            for name, words in SUBJECTS.items()
        }
        runs["", REFERENCE] = (reference(), HERE)
        taken: dict[tuple[str, str], list[float]] = {subject: [] for subject in runs}
        for turn in range(rounds + 1):
            for subject, (arguments, source) in runs.items():
                used = seconds(arguments, source)
                if turn:
                    taken[subject].append(used)
    result: dict[str, dict[str, float]] = {}
    for (where, name), times in taken.items():
        result.setdefault(where, {})[name] = statistics.median(times)
    return result


def table(result: dict[str, dict[str, float]]) -> str:
    """Print one line per subject and source folder: seconds, and their ratio to the reference."""
    base = result[""][REFERENCE]
    lines = [f"{'seconds':>8}  {'ratio':>5}  subject", f"{base:8.2f}         {REFERENCE}"]
    for where, subjects in result.items():
        if not where:
            continue
        lines.append(f"\n{where}")
        for name, used in subjects.items():
            ratio, limit = (used / subjects[TABLES[0]], 2.0) if name in TABLES else (used / base, 1.2)
            lines.append(f"{used:8.2f}  {ratio:5.2f}  {name}{'' if ratio <= limit else f'  (over {limit})'}")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--source",
        type=Path,
        action="append",
        help="Source folder; may be repeated. Default: that of this repository.",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    result = measure([source.resolve() for source in given.source or [HERE]], given.rounds)
    print(json.dumps(result, indent=1) if given.json else table(result))


if __name__ == "__main__":
    main()
