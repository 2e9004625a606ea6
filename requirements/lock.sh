#!/usr/bin/env bash
# Writes the hashes of every file that `make install` and `make test` may take: those of constraints.txt's versions, for
# all platforms. What is needed is found by an installation into an environment of its own, hashes by uv from the index.
#
#     make lock
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
install=("$work/venv/bin/python" -m pip install --quiet --constraint constraints.txt)
"${install[@]}" --upgrade pip uv

# Versions that are installed now and are in no earlier list; torch, of which builds differ, is
# not among them, nor are a GPU's libraries, which come with it.
versions() {
  "$work/venv/bin/python" -m pip freeze --all --exclude-editable |
    grep -vE '^(llm-fusion-classifier|setuptools|uv|torch|triton|nvidia-.*|cuda-.*)( @|==)' | tr A-Z a-z | sort >"$work/all.in"
  find "$work" -maxdepth 1 -name '*.list' -exec cat {} + | sort | comm -13 - "$work/all.in" >"$work/new"
  mv "$work/new" "$1"
}

hashed() { # NAME TITLE: from $work/NAME.list to requirements/NAME.txt
  { echo "# $2 Written by make lock."
    "$work/venv/bin/uv" pip compile --quiet --no-deps --generate-hashes --no-header --no-annotate "$work/$1.list"
  } >"requirements/$1.txt"
}

versions "$work/pip.list"
hashed pip "The installer."
"${install[@]}" hatchling editables '.[gguf,report,serve]'
versions "$work/run.list"
hashed run "What the package, GGUF files, reports and the server need, and what builds it."
"${install[@]}" --group dev
versions "$work/dev.list"
hashed dev "What tests and documentation need more."

{ echo "# What builds and checks a release. Written by make lock."
  "$work/venv/bin/uv" pip compile --quiet --no-config --universal --generate-hashes --no-header --no-annotate \
    --group pyproject.toml:release --constraint constraints.txt
} >requirements/release.txt

# The lock of uv sync, with the same versions.
# shellcheck disable=SC2046 # one option and its value a line
"$work/venv/bin/uv" lock --quiet $(sed 's/^/--upgrade-package /' constraints.txt)

# The oldest versions that pyproject.toml allows, for make test-minimum; torch's older builds for Linux are all for GPUs,
# and the tests' own tools are the pinned ones.
grep -E '^(torch|hypothesis|pytest|pytest-timeout|pytest-xdist|requests|schemathesis)==' constraints.txt >"$work/pinned.list"
{ echo "# The oldest versions that pyproject.toml allows, but for torch and the tests' tools. Written by make lock."
  "$work/venv/bin/uv" pip compile --quiet --no-config --resolution lowest-direct --group pyproject.toml:test \
    --extra gguf --extra hub --extra report --extra serve --extra skops --constraint "$work/pinned.list" \
    --no-header --no-annotate ${PIP_FIND_LINKS:+--find-links "$PIP_FIND_LINKS"} pyproject.toml |
    grep -vE '^(triton|nvidia-.*|cuda-.*)==' | sed 's/+cpu$//'
} >requirements/minimum.txt
