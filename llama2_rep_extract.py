"""The original's command: python llama2_rep_extract.py -device cuda -task ED -mode train."""

from pathlib import Path

from fusion_classifier.cli.original import rep_extract

if __name__ == "__main__":
    rep_extract("llama2-7b-chat", Path(__file__).parent)
