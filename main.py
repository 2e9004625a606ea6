"""The original's command: python main.py -dataset ED."""

from fusion_classifier.original import main

if __name__ == "__main__":
    main()
