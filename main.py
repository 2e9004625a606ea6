"""The original's command: python main.py -dataset ED."""

from pathlib import Path

from fusion_classifier.cli.original import main

if __name__ == "__main__":
    main(Path(__file__).parent)
