"""The table of docs/encoders.md: largest difference of each architecture and pooling from plain transformers.

python tests/helpers/architecture_table.py
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "encoders"))
import architectures
import test_architectures as comparison  # type: ignore[import-not-found]


def main() -> None:
    """Print the table in Markdown."""
    print(f"| architecture | {' | '.join(comparison.POOLINGS)} | batches |\n|---|{'---|' * 5}")
    with tempfile.TemporaryDirectory() as root:
        for kind in sorted(architectures.ARCHITECTURES):
            folder = architectures.make(kind, Path(root) / kind)
            encoder, differences = comparison.compared(kind, folder)
            way = "packed" if encoder.packed else "padded" if encoder.pads else "of equal length"
            print(f"| {kind} | {' | '.join(f'{value:.0e}' for value in differences)} | {way} |")


if __name__ == "__main__":
    main()
