"""docs/how-to/whatif.md, followed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from cli.conftest import Run
from tollkeeper.core.accesslog import Hit

from .logs import parse

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


def test_the_format_for_nginx_is_one_that_is_read() -> None:
    [text] = [text for language, text in BLOCKS if language == "nginx"]
    line = "".join(re.findall(r"'(.*?)'", text))
    values = {
        "msec": "1795243324.290",
        "remote_addr": "192.0.2.7",
        "remote_user": "ann",
        "request": "GET /x HTTP/1.1",
        "status": "200",
    }
    for name, value in {**values, "http_x_api_key": "abc"}.items():
        line = line.replace(f"${name}", value)
    assert parse()(line) == Hit(1_795_243_324_290_000, 200, "192.0.2.7", "ann", "GET /x HTTP/1.1", "abc")
