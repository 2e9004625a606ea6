"""Pages of the documentation site that are made from the program: the command line and the change log."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer import Context
from typer.cli import get_docs_for_click
from typer.core import TyperGroup
from typer.main import get_command

from fusion_classifier.cli.command import show_all
from fusion_classifier.cli.main import app

ROOT = Path(__file__).parents[1]
INTRODUCTION = """# Command line

Made from the program itself. `fec COMMAND --help` shows the main options, `--help-all` all of them.

"""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    files.append(File.generated(config, "reference/cli.md", content=command_line()))
    files.append(File.generated(config, "changelog.md", content=changes()))
    return files


def changes() -> str:
    """The change log, with its links as seen from docs/."""
    return (ROOT / "CHANGELOG.md").read_text("utf-8").replace("](docs/", "](")


def command_line() -> str:
    """Every command with its options, as Markdown."""
    command = get_command(app)
    assert isinstance(command, TyperGroup)
    show_all(command)
    return INTRODUCTION + get_docs_for_click(obj=command, ctx=Context(command), name="fec", indent=1)
