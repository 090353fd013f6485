"""A how-to page, followed by a test: its blocks in their order."""

from __future__ import annotations

import re
from pathlib import Path

from proxy.commands import Answer

HOW_TO = Path(__file__).parents[1] / "docs" / "how-to"


class Page:
    """The page's blocks by language in their order, with the ports of this run in place of the page's."""

    def __init__(self, name: str, ports: dict[str, str]) -> None:
        self._blocks: dict[str, list[str]] = {}
        for language, text in re.findall(r"```(\w+)\n(.*?)```", (HOW_TO / name).read_text(), re.DOTALL):
            for port, real in ports.items():
                text = re.sub(rf"(:|--port ){port}\b", rf"\g<1>{real}", text)
            self._blocks.setdefault(language, []).append(text.strip())

    def next(self, language: str, begins: str = "") -> str:
        block = self._blocks[language].pop(0)
        assert block.startswith(begins), block
        return block

    def left(self) -> dict[str, list[str]]:
        return {language: blocks for language, blocks in self._blocks.items() if blocks}


def assert_told(page: Page, answer: Answer) -> None:
    """The answer is as the page's next block of HTTP says, whatever else it holds."""
    status, *fields = page.next("http").splitlines()
    assert answer.status == int(status.split()[1])
    for field in fields:
        name, _, value = field.partition(": ")
        assert answer.headers[name] == value
