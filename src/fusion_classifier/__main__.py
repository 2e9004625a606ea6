"""`python -m fusion_classifier` is `fec`."""

from fusion_classifier.cli.main import main

main()
