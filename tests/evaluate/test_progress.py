"""The progress bar: shown on terminals and on request, with score and cost; rich loads only then."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from dspex.data import Evaluation, Usage
from dspex.evaluate import Bar, Evaluate, Tally
from dspex.evaluate.progress import progress_for
from tests.evaluate.fakes import Fake, examples, right


def test_the_bar_shows_how_far_how_good_and_how_dear() -> None:
    screen = io.StringIO()
    with Bar(4, console=Console(file=screen, force_terminal=True, width=120)) as bar:
        tally = Tally()
        for score in (1.0, 0.0, 1.0):
            tally.add(Evaluation(example_id="a", status="ok", scores={"score": score}, usage=Usage(calls=1, cost=0.5)))
            bar.advance(tally)
        tally.add(Evaluation(example_id="b", status="failed"))
        bar.advance(tally)
    shown = screen.getvalue()
    assert "4/4" in shown
    assert "score 0.667, 1 failed, $1.5" in shown


def test_an_unknown_cost_is_not_shown_as_nothing() -> None:
    tally = Tally()
    tally.add(Evaluation(example_id="a", status="failed", usage=Usage(calls=1, cost=None)))
    assert str(tally) == "no score yet, 1 failed, cost unknown"
    tally.add(Evaluation(example_id="a", status="ok", scores={"score": 1}, usage=Usage(calls=1, cost=0.25)))
    assert str(tally) == "score 1.000, 1 failed, at least $0.25"


@pytest.mark.parametrize(
    ("wanted", "terminal", "shown"),
    [(None, True, True), (None, False, False), (True, False, True), (False, True, False)],
)
def test_a_bar_is_shown_on_terminals_or_on_request(
    monkeypatch: pytest.MonkeyPatch, wanted: bool | None, terminal: bool, shown: bool
) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(stderr, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", stderr)
    assert isinstance(progress_for(wanted, 3), Bar) is shown


@pytest.mark.parametrize("natively_async", [True, False])
def test_evaluate_draws_it(capsys: pytest.CaptureFixture[str], natively_async: bool) -> None:
    Evaluate(examples(3), right, progress=True)(Fake(natively_async=natively_async))
    out, err = capsys.readouterr()
    assert out == ""
    assert "3/3" in err
    assert "score 1.000" in err


def test_rich_is_loaded_only_for_it() -> None:
    code = (
        "import sys\n"
        "from dspex.evaluate import Evaluate\n"
        "from tests.evaluate.fakes import Fake, examples, right\n"
        "Evaluate(examples(3), right, progress=False)(Fake())\n"
        "print('rich' in sys.modules, 'numpy' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout == "False False\n"
