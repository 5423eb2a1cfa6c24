"""The commands of docs/tokenizer-explain.md run, and print what the guide shows."""

import re
import shlex
from pathlib import Path

from typer.testing import CliRunner

from transformer.cli.app import app

GUIDE = Path(__file__).parents[2] / "docs" / "tokenizer-explain.md"


def output_of(command: str) -> str:
    program, *args = shlex.split(command)
    if program == "head":
        count, file = args
        return "".join(Path(file).read_text().splitlines(keepends=True)[: int(count.lstrip("-"))])
    result = CliRunner().invoke(app, args)
    assert program == "tgl" and result.exit_code == 0, result.output
    return result.stdout


def test_the_guide_shows_what_its_commands_print(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    guide = GUIDE.read_text(encoding="utf-8")
    (text,) = re.findall(r"^```text\n(.*?)^```", guide, re.M | re.S)
    (tmp_path / "song.txt").write_text(text)
    blocks = re.findall(r"^```console\n\$ (.*?)\n(.*?)^```", guide, re.M | re.S)
    assert len(blocks) == 3
    for command, shown in blocks:
        assert output_of(command) == shown, command
