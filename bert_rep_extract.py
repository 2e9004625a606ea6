"""The original's command: python bert_rep_extract.py -device cuda -task ED -mode train."""

from pathlib import Path

from fusion_classifier.cli.original import rep_extract

if __name__ == "__main__":
    rep_extract("bert-large", Path(__file__).parent)
