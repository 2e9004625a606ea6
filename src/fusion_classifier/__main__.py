"""`python -m fusion_classifier` is `fec`."""

from fusion_classifier.cli import main

main()
