#!/usr/bin/env bash
# Makes docs/demo.svg: a run and a prediction in a real terminal. Needs tmux; run from the repository root after `make install`.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'tmux kill-session -t fec-picture 2>/dev/null || true; rm -rf "$work"' EXIT
tmux new-session -d -s fec-picture -x 118 -y 72 \
  "export PATH=$PWD/.venv/bin:\$PATH PS1='$ '; cd $work; bash --norc -i"
type_line() { tmux send-keys -t fec-picture "$1" Enter; }
type_line "clear; fec run demo --encoder minilm-l6 --store $work/store --out runs/demo; touch done"
until [[ -f $work/done ]]; do sleep 1; done
rm "$work/done"
type_line 'fec predict runs/demo "I can not believe she remembered my birthday!"; touch done'
until [[ -f $work/done ]]; do sleep 1; done
sleep 1
tmux capture-pane -e -p -t fec-picture |
  sed -e 's/; touch done//' -e "s| --store $work/store||" -e 's/clear; //' -e "s|^bash-[0-9.]*[#\$]|$|" |
  .venv/bin/python -c '
import sys
from rich.console import Console
from rich.text import Text
console = Console(record=True, width=118, file=open("/dev/null", "w"))
console.print(Text.from_ansi(sys.stdin.read().rstrip()))
console.save_svg("docs/demo.svg", title="fec run demo")
'
echo "written: docs/demo.svg"
