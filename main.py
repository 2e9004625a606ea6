"""The original's command: python main.py -dataset ED."""

from fusion_classifier.cli.original import main

if __name__ == "__main__":
    main()
