"""Every Python example in README.md and docs/*.md runs, in order, in one namespace per file.

A fenced block marked ``python`` is run (as a doctest when it has prompts). What a reader need not see, such
as the mock model that stands in for a provider, stands in an HTML comment that begins with ``<!-- run``::

    <!-- run
    dspex.configure(lm=dspex.MockLM(["Paris"]))
    -->
"""

from __future__ import annotations

import ast
import asyncio
import doctest
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]

_BLOCK = re.compile(
    r"^(?P<indent>[ ]*)```python[ ]*\n(?P<shown>.*?)^(?P=indent)```[ ]*$"
    r"|^<!--[ ]*run[ ]*\n(?P<hidden>.*?)^-->",
    re.MULTILINE | re.DOTALL,
)


def run_page(path: Path) -> int:
    """Run all blocks of one page; returns how many there were."""
    text = path.read_text("utf-8")
    namespace: dict[str, Any] = {"__name__": "__docs__"}
    count = 0
    for match in _BLOCK.finditer(text):
        group = "shown" if match["shown"] is not None else "hidden"
        indent = match["indent"] or ""
        code = "".join(line.removeprefix(indent) for line in match[group].splitlines(keepends=True))
        run_block(code, namespace, path, text.count("\n", 0, match.start(group)))
        count += 1
    return count


def run_block(code: str, namespace: dict[str, Any], path: Path, line: int) -> None:
    if re.search(r"^\s*>>> ", code, re.MULTILINE):
        test = doctest.DocTestParser().get_doctest(code, namespace, path.name, str(path), line)
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        said: list[str] = []
        failed, _ = runner.run(test, out=said.append, clear_globs=False)
        namespace.update(test.globs)
        if failed:
            pytest.fail("".join(said), pytrace=False)
        return
    # The empty lines before it give tracebacks the page's own line numbers.
    compiled = compile("\n" * line + code, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(compiled, namespace)
    if inspect.iscoroutine(result):
        asyncio.run(result)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_page(path: Path) -> None:
    run_page(path)


def test_blocks_share_a_namespace_and_hidden_ones_run(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Title\n<!-- run\nx = 20\n-->\n```python\ny = x + 1\n```\n"
        "1. item\n\n   ```python\n   z = y * 2\n   ```\n"
        "```python\n>>> z\n42\n```\n```bash\nexit 1\n```\n"
        "```python\nimport asyncio\nawait asyncio.sleep(0)\n```\n",
        "utf-8",
    )
    assert run_page(page) == 5


def test_a_wrong_block_is_named_by_its_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text\n\n```python\nfine = 1\nfine / 0\n```\n", "utf-8")
    with pytest.raises(ZeroDivisionError) as caught:
        run_page(page)
    assert (caught.traceback[-1].path, caught.traceback[-1].lineno + 1) == (page, 5)


def test_a_wrong_output_is_shown(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\n>>> 1 + 1\n3\n```\n", "utf-8")
    with pytest.raises(pytest.fail.Exception, match=r"(?s)Expected:\s+3\s+Got:\s+2"):
        run_page(page)
