"""Which trial stands for which configuration, in this run of a search and those before it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

from dspex.errors import StateError, StudyError
from dspex.study import Study, Trial
from dspex.trials import FrozenTrial, TrialState
from dspex.variables import Space, VariableState

__all__ = ["Configurations"]

_GIVEN = "given"  # marks a trial whose values the optimizer chose, not the sampler
_GIVEN_UP = (TrialState.PRUNED, TrialState.FAIL)


class Configurations:
    """The trials of a study by the values they have; one that an earlier run began is taken up, not begun again.

    ``start`` is the program's own state, ``on_finished`` hears the number of each trial that is closed.
    """

    def __init__(self, study: Study, space: Space, start: VariableState, on_finished: Callable[[int], object]) -> None:
        self._study = study
        self._space = space
        self._start = start
        self._on_finished = on_finished
        self._trials: dict[str, Trial | FrozenTrial] = {}  # by fingerprint
        self._sampled: deque[Trial | FrozenTrial] = deque()  # of an earlier run, to be asked for again
        self._asked: list[Trial] = []  # all that are this search's to finish or to put back
        self._take_over()

    def _take_over(self) -> None:
        """Take up the trials of an earlier run: finished ones as they are, interrupted ones to be continued."""
        self._study.requeue_interrupted()
        queued = self._study.get_trials(states=[TrialState.WAITING])
        for _ in queued:
            self._asked.append(self._study.ask())
        claimed = {trial.number: trial for trial in self._asked}
        for frozen in self._study.trials:
            trial: Trial | FrozenTrial = claimed.get(frozen.number, frozen)
            if frozen.state is TrialState.RUNNING and trial is frozen:
                continue  # somebody else's, who works on this study by hand
            if frozen.state is TrialState.FAIL and not frozen.params:
                continue
            fingerprint = self._state_of(trial).fingerprint
            first = self._trials.setdefault(fingerprint, trial)
            if frozen.state is TrialState.COMPLETE and _frozen(first).state in _GIVEN_UP:
                self._trials[fingerprint] = trial  # given up before, and scored after all
            if _GIVEN not in frozen.system_attrs:
                self._sampled.append(trial)

    def ask(self) -> VariableState:
        """What the study's sampler chooses next; in a resumed search first what it chose then."""
        if self._sampled:
            trial = self._sampled.popleft()
        else:
            self._asked.append(self._study.ask())
            trial = self._asked[-1]
        state = self._state_of(trial)
        first = self._trials.setdefault(state.fingerprint, trial)
        if first is not trial and isinstance(trial, Trial):
            self._tell_duplicate(trial, first)
        return state

    def trial_of(self, state: VariableState) -> Trial | FrozenTrial:
        """The trial that has these values; a new one where there is none."""
        trial = self._trials.get(state.fingerprint)
        return self._add(state) if trial is None else trial

    def is_judged(self, state: VariableState) -> bool:
        """Whether the trial of a configuration was closed by what it scored, and not for lack of scores."""
        return _frozen(self._trials[state.fingerprint]).state in (TrialState.COMPLETE, TrialState.PRUNED)

    def report(self, state: VariableState, value: float, step: int) -> None:
        """Note what a trial has scored so far."""
        trial = self._trials[state.fingerprint]
        if isinstance(trial, Trial) and trial.frozen.state is TrialState.RUNNING:
            trial.report(value, step)

    def complete(self, state: VariableState, values: Sequence[float]) -> None:
        """Close the trial of a configuration that was scored on everything."""
        if _frozen(self._trials[state.fingerprint]).state in _GIVEN_UP:
            self._add(state)  # given up before, and now scored after all
        self._tell(self._trials[state.fingerprint], list(values), None)

    def give_up(self, state: VariableState, how: TrialState) -> None:
        """Close the trial of a configuration as pruned or failed, if it is open."""
        self._tell(self._trials[state.fingerprint], None, how)

    def close(self) -> None:
        """Put back in the queue what was not finished, for a later run to continue."""
        for trial in self._asked:
            if trial.frozen.state is TrialState.RUNNING:
                try:
                    self._study.requeue(trial)
                except StudyError:
                    continue  # another process has it by now

    def _state_of(self, trial: Trial | FrozenTrial) -> VariableState:
        return self._space.state(self._study.values(trial))

    def _add(self, state: VariableState) -> Trial:
        active = set(state.active())
        for path, value in state.items():
            if path in active and not self._space[path].tunable and value != self._start[path]:
                raise StateError(
                    f"{path} = {value!r}: this variable is not searched, so a trial cannot have another value than the "
                    f"program's own, {self._start[path]!r}. Open it: program.unfreeze({path!r})"
                )
        fixed = {path: state[path] for path in self._space.tunable if path in active}
        for path in fixed:
            if self._space[path].domain.open_ended:  # type: ignore[union-attr]  # tunable, so not derived
                fixed[path] = self._study.pool(path).add(fixed[path], source="user").id
        self._asked.append(self._study.ask(fixed=fixed, system_attrs={_GIVEN: True}))
        trial = self._trials[state.fingerprint] = self._asked[-1]
        return trial

    def _tell(self, trial: Trial | FrozenTrial, values: Sequence[float] | None, state: TrialState | None) -> None:
        if isinstance(trial, Trial) and trial.frozen.state is TrialState.RUNNING:
            if values is not None and any(map(math.isnan, values)):
                values, state = None, TrialState.FAIL
            # What a program does wrong is scored; without scores it was the world that failed.
            self._study.tell(trial, values, state=state, infrastructure=state is TrialState.FAIL)
            self._on_finished(trial.number)

    def _tell_duplicate(self, trial: Trial, first: Trial | FrozenTrial) -> None:
        """The sampler chose what was chosen before: tell it what is known instead of paying again."""
        known = _frozen(first)
        if known.state is TrialState.COMPLETE:
            self._tell(trial, list(known.values or ()), None)
        elif len(self._study.directions) == 1 and known.intermediate_values:
            step = max(known.intermediate_values)
            trial.report(known.intermediate_values[step], step)
            self._tell(trial, None, TrialState.PRUNED)
        else:
            self._tell(trial, None, TrialState.FAIL)


def _frozen(trial: Trial | FrozenTrial) -> FrozenTrial:
    return trial.frozen if isinstance(trial, Trial) else trial
