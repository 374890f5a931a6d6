"""What chooses the values of the next trial."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from dspex.errors import StudyError
from dspex.trials import StudyView
from dspex.trials.checks import at_least
from dspex.variables import Domain, Space

__all__ = ["Sampler"]


class Sampler(ABC):
    """Chooses values, either for a whole declared space or for one variable at a time.

    A sampler sees a `StudyView` and nothing else of the study, and it may keep what it has learned about a
    view for as long as the view lives; what it kept is only ever a shortcut for reading the view again.

    **Open-ended variables** (prompts, demos) are chosen among the candidates in ``view.pools[path]``, by id:
    the value that a sampler gives for such a path is the id of a pool item. A pool may have grown since the
    last call.

    **Determinism.** The same seed, trial number and history give the same values, whichever process asks and
    however many trials were asked for before: randomness is drawn from (seed, trial number), never from a
    stream that earlier calls have advanced.

    **Trials at once.** Of a declared space, no trial gets the configuration of a running one while another is left.

    **Threads.** Every method may be called from several threads at once.

    Each sampler passes the suite in `dspex.testing.samplers`.
    """

    avoid_premature_stop: bool = False
    """Whether `Study.optimize`, with nothing left to try, waits for the running trials of other processes as well."""

    @abstractmethod
    def sample(self, view: StudyView, number: int, space: Space, *, fixed: Mapping[str, Any]) -> dict[str, Any]:
        """Values of all variables of ``space`` that are tunable and active, for trial ``number``.

        ``fixed`` holds values that are decided already; they are part of the answer where they are active.

        Raises:
            StudyError: when a pool is empty, or no values were found that satisfy the space's constraints.
        """

    @abstractmethod
    def suggest(
        self, view: StudyView, number: int, path: str, domain: Domain[Any], *, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The value of ``path``, for a trial that declares its variables while it runs.

        ``params`` are the values that the trial has already. The answer may hold values of other variables
        that were chosen jointly; the trial uses each when it comes to it, if the domain still allows it.

        Raises:
            StudyError: when the pool of an open-ended variable is empty.
        """

    def describe(self, view: StudyView) -> str:
        """The sampler in a line, for reports: its repr, and what it makes of the study where that is more."""
        return repr(self)

    def exhausted(self, view: StudyView, *, fixed: Mapping[str, Any] | None = None) -> bool:
        """Whether nothing is left that no trial has tried or is trying, with the values of ``fixed``: when its running
        trials have shown nothing new either, `Study.optimize` ends.

        Values may be asked for all the same; they repeat what has been tried. A sampler that knows no end leaves this
        as it is.
        """
        return False


def seed_or_random(seed: int | None) -> int:
    """``seed``, or one from the operating system.

    Raises:
        StudyError: when it is no whole number that is at least 0.
    """
    if seed is None:
        return secrets.randbits(63)
    return at_least("seed", seed, 0, otherwise=" or None")


def candidates_of(view: StudyView, path: str) -> list[str]:
    """The ids of the candidates of an open-ended variable, oldest first.

    Raises:
        StudyError: when there is none.
    """
    pool = view.pools.get(path)
    if not pool:
        raise StudyError(
            f"{path!r} is open-ended and has no candidates to choose from yet. "
            f"Add one before you ask: study.pool({path!r}).add(...)"
        )
    return [item.id for item in pool]
