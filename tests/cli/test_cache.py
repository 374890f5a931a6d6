"""``dspex cache``: what a shell sees."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dspex.cli import main
from dspex.data import Usage
from dspex.lm import Cache, Completion, LMResponse, MockLM
from dspex.lm.cache import default_cache

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cache() -> Cache:
    cache = default_cache()
    for model in ("mock/one", "mock/one", "mock/two"):
        MockLM(["x" * 9], model=model, cache=cache)(f"{time.time_ns()}")
    return cache


def test_stats(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "stats"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{cache.path}: 3 answers, ")
    assert "         2  mock/one\n         1  mock/two\n" in shown
    assert main(["cache", "stats", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"] == {"mock/one": 2, "mock/two": 1}


def test_clear(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "clear", "--older-than", "1d"]) == 0
    assert main(["cache", "clear", "--model", "mock/one"]) == 0
    assert main(["cache", "clear"]) == 0
    assert [line.split(" ")[0] for line in capsys.readouterr().out.splitlines()] == ["0", "2", "1"]
    assert len(cache) == 0


def test_export(cache: Cache, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["cache", "export"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["model"] for row in rows] == ["mock/one", "mock/one", "mock/two"]
    assert rows[0]["response"]["completions"] == [{"text": "x" * 9, "finish_reason": "stop"}]
    assert main(["cache", "export", "--model", "mock/two", "--output", str(tmp_path / "out.jsonl")]) == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1


def test_half_a_surrogate_pair_is_exported(cache: Cache, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cache.put("half", LMResponse((Completion("ü\ud83d", "stop"),), Usage(calls=1), "mock/half"))
    assert main(["cache", "export", "--model", "mock/half", "--output", str(tmp_path / "out.jsonl")]) == 0
    assert main(["cache", "export"]) == 0
    for text in ((tmp_path / "out.jsonl").read_text("utf-8"), capsys.readouterr().out):
        assert json.loads(text.splitlines()[-1])["response"]["completions"][0]["text"] == "ü\ud83d"


def test_no_cache_and_no_age(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "stats", "--path", "nowhere.db"]) == 1
    assert "there is no cache at" in capsys.readouterr().err
    assert not Path("nowhere.db").exists()
    for text in ("soon", "-5d", "nan", "inf"):
        with pytest.raises(SystemExit):
            main(["cache", "clear", f"--older-than={text}"])
        assert f"{text!r} is no age; write for example 30d" in capsys.readouterr().err


def test_an_export_that_cannot_be_written(cache: Cache, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["cache", "export", "--output", str(tmp_path / "nowhere" / "out.jsonl")]) == 1
    assert "cannot be written: No such file or directory" in capsys.readouterr().err


def test_an_export_does_not_write_over_the_cache(
    cache: Cache, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    entries = len(cache)
    link = tmp_path / "link.jsonl"
    link.symlink_to(str(cache.path))
    for output in (str(cache.path), str(link)):
        assert main(["cache", "export", "--output", output]) == 1
        assert "is the cache itself" in capsys.readouterr().err
    cache.close()
    assert len(cache) == entries > 0


def test_the_command_is_declared_and_its_help_loads_nothing_heavy() -> None:
    code = "import sys; from dspex.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n" + (
        "print({'litellm', 'sqlalchemy', 'sqlite3'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout.startswith("usage: dspex")
    assert done.stdout.endswith("set()\n")
    project = (ROOT / "pyproject.toml").read_text()
    assert '[project.scripts]\ndspex = "dspex.cli:main"' in project
