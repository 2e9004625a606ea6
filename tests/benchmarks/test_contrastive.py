"""The benchmark of contrastive tuning from outside, on a small data set and a small model."""

import csv
import json
from pathlib import Path

import pytest
from command import program

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "accuracy" / "contrastive.py"
WORDS = ("happy", "angry", "scared")


@pytest.mark.slow
def test_each_draw_is_tuned_from_the_original_weights(bert_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "subj"
    folder.mkdir(parents=True)
    for split, count in (("train", 60), ("valid", 30)):
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as stream:
            rows = csv.writer(stream)
            rows.writerow(["text", "label"])
            rows.writerows([f"{i} {WORDS[i % 3]}", WORDS[i % 3]] for i in range(count))

    def ran(out: str, draws: str) -> tuple[list[dict[str, object]], str]:
        command = ["--data", tmp_path / "data", "--encoder", f"{bert_folder}?dtype=float32"]
        command += ["--out", tmp_path / out, "--datasets", "subj", "--sizes", "8", "--draws", draws]
        command += ["--set", "epochs=20", "--set", "learning_rate=0.003", "--peers", tmp_path / "peers.jsonl"]
        done = program(SCRIPT, *command)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in (tmp_path / out).read_text().splitlines()], done.stdout

    peer = {"dataset": "subj", "split": "valid", "n": 8, "draw": 1, "system": "setfit", "accuracy": 0.25}
    (tmp_path / "peers.jsonl").write_text(json.dumps(peer | {"train_seconds": 90.0}) + "\n")
    both, printed = ran("both.jsonl", "0,1")
    assert [row["rows"] for row in both] == [24, 24]
    assert all(float(str(row["accuracy"])) > 0.8 for row in both)
    assert "of draws [1]: " in printed
    assert "setfit 25.0 (90.0 s)" in printed
    second, _ = ran("second.jsonl", "1")
    assert [second[0][key] for key in ("accuracy", "ece")] == [both[1][key] for key in ("accuracy", "ece")]
    assert ran("both.jsonl", "0,1")[0] == both  # what is finished is skipped
