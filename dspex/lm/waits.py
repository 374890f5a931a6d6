"""What a call may have to wait for; each is waited for blocking or awaiting."""

from __future__ import annotations

import time
import warnings
from abc import ABC, abstractmethod
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING

from dspex.execution.giving_up import end_on_cancel

if TYPE_CHECKING:
    from dspex.execution.run import Run

__all__ = ["Pause", "Turn", "Wait"]


def _on_event_loop() -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Wait(ABC):
    """A step of a call: wait for something, then go on; raises when the run is over in the meantime."""

    __slots__ = ()

    @abstractmethod
    def block(self, run: Run | None) -> None:
        """Wait on this thread."""

    @abstractmethod
    async def wait(self, run: Run | None) -> None:
        """Wait in this task."""


class Pause(Wait):
    """Wait this many ``seconds``."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def block(self, run: Run | None) -> None:
        if run is not None:
            run.pause(self.seconds)
        else:
            time.sleep(self.seconds)

    async def wait(self, run: Run | None) -> None:
        import asyncio

        await end_on_cancel(run, asyncio.sleep(self.seconds))
        if run is not None:
            run.check()


class Turn(Wait):
    """Wait until ``place`` is given, at most ``left`` seconds; raises `TimeoutError`."""

    __slots__ = ("left", "place")

    def __init__(self, place: Future[None], left: float | None) -> None:
        self.place = place
        self.left = left

    def block(self, run: Run | None) -> None:
        if not self.place.done() and _on_event_loop():
            warnings.warn(
                "a blocking call waits for one of its model's places (max_concurrency) on the thread of an event loop, "
                "whose own calls cannot end meanwhile. In async code await the call: await program.acall(...)",
                RuntimeWarning,
                stacklevel=2,
            )
        if run is not None:
            run.on_cancel(self.place.cancel)
        try:
            self.place.result(self.left)
        except (CancelledError, TimeoutError) as error:
            if run is not None:
                run.check()  # its time being up is the better reason
            if isinstance(error, CancelledError):
                raise
            raise TimeoutError("no place was free in time") from None
        finally:
            if run is not None:
                run.off_cancel(self.place.cancel)

    async def wait(self, run: Run | None) -> None:
        import asyncio

        try:
            async with asyncio.timeout(self.left):
                await end_on_cancel(run, asyncio.wrap_future(self.place))
        except TimeoutError:
            if run is not None:
                run.check()  # its time being up is the better reason
            raise
