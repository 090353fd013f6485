"""docs/how-to/whatif.md, followed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from cli.conftest import Run

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "whatif.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_works_from_top_to_bottom(run: Run, tmp_path: Path) -> None:
    said, answered = "", 0
    for language, text in BLOCKS:
        match language:
            case "python":
                exec(compile(text, "whatif.md", "exec"), {})
            case "toml":
                (tmp_path / "tollkeeper.toml").write_text(text)
            case "sh" if "/var/log" not in text:
                program, *words = shlex.split(text)
                result = run(*words)
                assert (program, result.code) == ("tollkeeper", 0), result.err
                said = result.out
            case "text":
                assert text in said
                answered += 1
    assert answered == 2
    assert "<svg" in (tmp_path / "report.html").read_text()
