"""Everything dspex raises on purpose.

::

    DspexError
    ├── DefinitionError (also a TypeError)   a class, signature, domain or default that cannot be meant
    ├── BindingError                         a capture of a module that cannot be re-pointed at its copy
    ├── StateError (also a ValueError)       a value, path or artifact that does not fit its space
    ├── DataError (also a ValueError)        an example, dataset or file of data that cannot be used
    ├── LMError                              a call to a language model that gave no answer
    │   ├── LMTimeoutError                   ... in time                                    (retried)
    │   ├── LMRateLimitError                 ... because of a rate limit                    (retried)
    │   ├── LMConnectionError                ... because the model could not be reached     (retried)
    │   ├── LMServerError                    ... because the provider failed (5xx)          (retried)
    │   ├── LMCircuitOpenError               ... as it keeps failing, and was not asked     (retried later)
    │   ├── LMAuthError                      ... missing or refused credentials
    │   ├── LMBillingError                   ... the account that pays has nothing left
    │   ├── LMContextWindowError             ... the prompt is longer than the model reads
    │   ├── LMContentFilterError             ... the provider's filter stopped it
    │   └── LMRequestError                   ... the request itself is invalid, or the model unknown
    ├── ParseError                           an answer that does not fit the signature's outputs
    ├── ToolError                            a tool that is unknown, or was called wrongly, or raised
    ├── MetricError                          a metric that raised or returned what is no score
    ├── DeadlineExceeded                     a run that was cancelled because its time was up
    ├── BudgetExceeded                       a call that would have gone past the budget
    ├── StudyError                           a study, trial, sampler or pruner used wrongly
    └── StorageError                         a study, cache or program file that cannot be read or written
        └── ReplayMissError                  an answer that is to be replayed and is not in the cache

    TrialPruned                              control flow, on purpose outside the tree

``error.infrastructure`` says whether an error is the world's fault rather than the program's: such an
example is retried, then recorded as *failed*, and never scored as wrong.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "BindingError",
    "BudgetExceeded",
    "DataError",
    "DeadlineExceeded",
    "DefinitionError",
    "DspexError",
    "LMAuthError",
    "LMBillingError",
    "LMCircuitOpenError",
    "LMConnectionError",
    "LMContentFilterError",
    "LMContextWindowError",
    "LMError",
    "LMRateLimitError",
    "LMRequestError",
    "LMServerError",
    "LMTimeoutError",
    "MetricError",
    "ParseError",
    "ReplayMissError",
    "StateError",
    "StorageError",
    "StudyError",
    "ToolError",
    "TrialPruned",
    "is_infrastructure",
]


class DspexError(Exception):
    """The base of all errors that dspex raises."""

    infrastructure: ClassVar[bool] = False
    """Whether the world (network, provider, worker, clock) failed, not the program: never scored as wrong."""

    retryable: ClassVar[bool] = False
    """Whether the same call may succeed when it is made again."""


class DefinitionError(DspexError, TypeError):
    """A class, signature, domain or default that cannot be meant; raised where it is written."""


class BindingError(DspexError):
    """Something holds a module of the program in a way that `bind` cannot re-point at the copy."""


class StateError(DspexError, ValueError):
    """A path, value or saved artifact that does not fit the space."""


class DataError(DspexError, ValueError):
    """An example, dataset or data file that cannot be used as it is."""


class LMError(DspexError):
    """A call to a language model that gave no answer.

    ``model`` is the model's name and ``retry_after`` the provider's wish in seconds, when it gave one.
    ``billed`` says whether the provider may bill the call all the same: a call that was refused costs nothing,
    one that was cut off or answered illegibly may cost anything. ``usage`` is what the provider said that it took
    (`dspex.Usage`), when it did, and ``spent`` what all attempts of the call took together, those of fallbacks too.
    ``replayed`` says that it is what an earlier call came to, under the cache policy ``"replay"``.
    """

    infrastructure = True
    _billed: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        model: str | None = None,
        retry_after: float | None = None,
        billed: bool | None = None,
        usage: Any = None,
    ) -> None:
        super().__init__(message)
        self.model = model
        self.usage = usage
        self.spent: Any = None
        self.replayed = False
        self.retry_after = retry_after
        self.billed = self._billed if billed is None else billed

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: getattr(self, name) for name in ("model", "retry_after", "billed", "usage")}
        return (_rebuild, (type(self), str(self), state), {"spent": self.spent, "replayed": self.replayed})


class LMTimeoutError(LMError):
    """The model did not answer in time."""

    retryable = True
    _billed = True


class LMRateLimitError(LMError):
    """The provider's rate limit refused the call."""

    retryable = True


class LMConnectionError(LMError):
    """The model could not be reached."""

    retryable = True


class LMServerError(LMError):
    """The provider failed while answering."""

    retryable = True


class LMCircuitOpenError(LMError):
    """The model failed so often in a row that it is left alone for ``retry_after`` seconds; nothing was sent."""

    retryable = True


class LMAuthError(LMError):
    """Credentials are missing or were refused."""


class LMBillingError(LMError):
    """The account that pays for the model has nothing left, or a cap on its spending is reached."""


class LMContextWindowError(LMError):
    """The prompt is longer than what the model reads; the program's fault, so it is scored, not retried."""

    infrastructure = False


class LMContentFilterError(LMError):
    """The provider's content filter stopped the call, or the model refused to answer."""

    infrastructure = False


class LMRequestError(LMError):
    """The provider refused the request as invalid, or does not know the model."""


class ParseError(DspexError):
    """A model's answer that does not fit the signature's outputs.

    ``text`` is the whole answer, ``partial`` the fields that could be read, ``problems`` what is wrong with each
    of the others, ``adapter`` the adapter's name.
    """

    def __init__(
        self,
        message: str,
        *,
        text: str = "",
        partial: dict[str, Any] | None = None,
        problems: dict[str, str] | None = None,
        adapter: str = "",
    ) -> None:
        super().__init__(message)
        self.text = text
        self.partial = partial or {}
        self.problems = problems or {}
        self.adapter = adapter

    def __reduce__(self) -> tuple[Any, ...]:
        state = {"text": self.text, "partial": self.partial, "problems": self.problems, "adapter": self.adapter}
        return (_rebuild, (type(self), str(self), state))


class ToolError(DspexError):
    """A tool that does not exist, was called with wrong arguments, or raised."""


class MetricError(DspexError):
    """A metric that raised, or returned something that is no score."""


class DeadlineExceeded(DspexError):  # noqa: N818 - says what happened, like TimeoutExpired
    """The run's time was up, and it was cancelled."""

    infrastructure = True
    retryable = True


class BudgetExceeded(DspexError):  # noqa: N818 - says what happened, like TimeoutExpired
    """The call would have gone past the budget; it was not made."""

    infrastructure = True


class StudyError(DspexError):
    """A study, trial, sampler or pruner that was used wrongly."""


class StorageError(DspexError):
    """A study, cache or program file that cannot be read or written."""


class ReplayMissError(StorageError):
    """A call that was to be answered from the cache alone, and is not in it."""


class TrialPruned(Exception):  # noqa: N818 - control flow and Optuna's name for it, not an error
    """Raise it inside an objective to end a trial that is not worth finishing.

    >>> from dspex.study import create_study
    >>> def objective(trial):
    ...     for step in range(10):
    ...         trial.report(trial.number / (step + 1), step)
    ...         if trial.should_prune():
    ...             raise TrialPruned
    ...     return trial.number / 10
    >>> study = create_study()
    >>> study.optimize(objective, n_trials=7)
    >>> [trial.state.name for trial in study.trials[-2:]]
    ['PRUNED', 'PRUNED']
    """


def is_infrastructure(error: BaseException) -> bool:
    """Whether the world failed, not the program.

    >>> is_infrastructure(DeadlineExceeded("too late")), is_infrastructure(ValueError("no number"))
    (True, False)
    """
    if isinstance(error, DspexError):
        return error.infrastructure
    return isinstance(error, ConnectionError | TimeoutError)


def _rebuild(cls: type[Exception], message: str, keywords: dict[str, Any]) -> Exception:
    # Exceptions with keyword-only state travel back from worker processes through this.
    return cls(message, **keywords)
