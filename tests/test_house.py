"""The rules of this code base that a program can check; CONTRIBUTING.md has them in words."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "fusion_classifier"
LONGEST = {"module": 400, "class": 250, "function": 60}  # lines, of a function without its docstring
OTHER_TOOLS = re.compile(r"pip install|^--(always|dirty|abbrev|exclude)")  # pip and git, whose options may be named
POSIX = re.compile(
    r"SIGKILL|SIGTERM|send_signal|\"/(dev|proc)/|symlink_to|\bresource\.|setrlimit|geteuid|mkfifo|umask|killpg|fcntl"
)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def modules(folder: Path) -> Iterator[tuple[str, ast.Module, int]]:
    """Path from the root, syntax tree and number of lines of every module."""
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text("utf-8")
        yield str(path.relative_to(ROOT)), ast.parse(text), text.count("\n")


def test_modules_classes_and_functions_are_short() -> None:
    too_long = []
    for name, tree, lines in modules(PACKAGE):
        if lines > LONGEST["module"]:
            too_long.append(f"{name}: {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                whole = isinstance(node, ast.ClassDef) or ast.get_docstring(node) is None or len(node.body) == 1
                length = (node.end_lineno or 0) - (node if whole else node.body[1]).lineno + 1
                if length > LONGEST["class" if isinstance(node, ast.ClassDef) else "function"]:
                    too_long.append(f"{name}: {node.name} has {length} lines")
    assert too_long == []


def test_below_the_command_line_no_message_names_an_option() -> None:
    """Errors name the parameter; the command line and the server put their own names to it."""
    named = []
    for name, tree, _ in modules(PACKAGE):
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) and id(node) not in docstrings else None
            if (
                isinstance(text, str)
                and not name.startswith("src/fusion_classifier/cli/")
                and not OTHER_TOOLS.search(text)
            ):
                named += [f"{name}:{getattr(node, 'lineno', 0)}: {option}" for option in OPTION.findall(text)]
    assert named == []


def test_packages_re_export_nothing() -> None:
    """Every name is imported from the module that defines it; the public names, from the package itself."""
    assert [
        name
        for name, tree, _ in modules(PACKAGE)
        if name.endswith("/__init__.py") and name != "src/fusion_classifier/__init__.py" and len(tree.body) > 1
    ] == []


def test_names_of_tests_are_short() -> None:
    names = [
        f"{name}: {node.name} ({len(node.name)})"
        for name, tree, _ in modules(ROOT / "tests")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and re.match(r"test_.{55}", node.name)
    ]
    assert names == []


def test_tests_that_need_posix_say_so() -> None:
    """Their function or module bears the mark `posix` or `linux`, so that they are skipped elsewhere."""
    unmarked = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text("utf-8")
        if path == Path(__file__) or re.search(r"^pytestmark = .*(linux|posix|skipif)", text, re.MULTILINE):
            continue
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and POSIX.search(ast.get_source_segment(text, node) or ""):
                marks = " ".join(map(ast.unparse, node.decorator_list))
                if "linux" not in marks and "posix" not in marks:
                    unmarked.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert unmarked == []


COUNTED = r"texts?|rows?|tokens?|requests?|[KMG]?B|GFLOP/s|m?s|(?:milli)?seconds|vectors?|trainings?"
UNITS = r"text|row|token|second|minute|hour|label|class|batch|seed|core|thread|worker|step|layer|encoder|file|line"
BANNED = re.compile(
    r"\b(anew|afresh|mends?|mended|heeds?|heeded|greatest|unless (?:given|told)|(?:can|can't|cannot) be had"
    r"|not at hand|stands? twice|up to case and|for ever|goes? on where|to go on|belongs? into"
    r"|a little too good|all alike|runner-up|to the (?:bit|letter)|of no class|stranger texts?|shall"
    r"|goes with|unless said|texts of (?:train|validation)"
    rf"|(?:{COUNTED}) a (?:{UNITS}))\b"
)
SPACED = re.compile(r"\d %")
EXCEPT = "CONTRIBUTING.md"  # lists the phrases


COLON = re.compile(r"(?:^|`): (?:is|has|was|needs|goes|reads|contains|can't be|must be|does not) ")


def test_messages_have_no_colon_before_a_verb() -> None:
    """`reviews.csv is empty` or `reviews.csv: no rows`, not `reviews.csv: is empty`."""
    assert [
        f"{name}:{node.lineno}: {node.value}"
        for name, tree, _ in modules(PACKAGE)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and COLON.search(node.value)
    ] == []


def test_prose_is_plain_english() -> None:
    """Phrases that CONTRIBUTING.md replaces; "per", not "a", between a figure and its unit; 95% without a space."""
    files = [path for name in ("benchmarks", "docs", "examples", "src") for path in (ROOT / name).rglob("*")]
    found = []
    for path in sorted([*files, *ROOT.glob("*.md")]):
        name = path.relative_to(ROOT).as_posix()
        if path.suffix in {".html", ".j2", ".js", ".md", ".py"} and name != EXCEPT:
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                found += [f"{name}:{number}: {phrase}" for phrase in BANNED.findall(line)]
                found += [f"{name}:{number}: {figure}" for figure in SPACED.findall(line) if path.suffix == ".md"]
    assert found == []
