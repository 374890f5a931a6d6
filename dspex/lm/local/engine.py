"""llama.cpp in this process: one engine a model file, started at its first request, ended with the interpreter.

An engine has several *lanes*: each is a llama.cpp of its own on cores of its own, with a thread that waits for it, and
answers one request at a time. Nothing is shared between them but the weights, which are in memory once, and what
`heads` keeps. So nobody waits for another's threads, and what is computed does not depend on what else is going on:
llama.cpp's own way to do several at once computes them together, which rounds differently with different company.

Nobody but its thread ever waits inside llama.cpp. Who asks holds a `Job`, from which he can turn away at any moment;
the thread then ends the generation at its next token.
"""

from __future__ import annotations

import atexit
import os
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, NamedTuple

from dspex.errors import LMConnectionError, LMRequestError
from dspex.lm.local.answer import Answer
from dspex.lm.local.heads import Heads, Port
from dspex.lm.local.repack import repacked
from dspex.lm.local.weights import Weights
from dspex.lm.types import MessageBlock

__all__ = ["Engine", "Job", "Setup", "engine_of", "stop_engines"]

_PATIENCE = 5.0
"""Seconds that the end of the process waits for an answer to be broken off."""


class Setup(NamedTuple):
    """What makes two engines different: the weights, and how much of the machine they may use."""

    weights: Weights
    lanes: int
    threads: int
    context: int


class Job(Future[Answer]):
    """One request on its way: ``body`` for llama.cpp, and ``head``, the messages it shares with others.

    ``hear`` is given each piece of text as it comes, on the engine's thread.
    """

    def __init__(self, body: Mapping[str, Any], head: MessageBlock, hear: Callable[[str], None] | None = None) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.hear = hear
        self.abandoned = False

    @property
    def text(self) -> str:
        """Its messages' texts."""
        return "\0".join(str(message.get("content")) for message in self.body["messages"])

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        self.abandoned = True
        self.cancel()


class Engine:
    """One model file, ready to answer as many requests at once as it has lanes; safe for threads."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._heads = Heads()
        self._lanes = [_Lane(self) for _ in range(setup.lanes)]
        self._lock = threading.Lock()
        self._idle = list(self._lanes)
        self._waiting: deque[Job] = deque()
        self._stopping = False

    def submit(self, job: Job) -> None:
        """Have ``job`` answered as soon as a lane is free."""
        with self._lock:
            if self._stopping:
                raise _unloaded()
            if not self._idle:
                self._waiting.append(job)
                return
            # The first, so that who asks one at a time has one model loaded.
            lane = min(self._idle, key=self._lanes.index)
            self._idle.remove(lane)
            lane.take(job)  # before the lock is free, so that `stop` comes before it or after it

    def next_job(self, lane: _Lane) -> Job | None:
        """The next job for ``lane``, which is idle when there is none."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._idle.append(lane)
            return None

    def stop(self) -> None:
        """Break off what is going on, and unload the model."""
        with self._lock:
            self._stopping = True
            waiting, self._waiting = self._waiting, deque()
            for lane in self._lanes:
                lane.take(None)
        for job in waiting:
            if job.set_running_or_notify_cancel():
                job.set_exception(_unloaded())
        ends = time.monotonic() + _PATIENCE
        for lane in self._lanes:
            lane.close(max(0.0, ends - time.monotonic()))
        self._heads.close()

    def outlive(self) -> None:
        """Never unload what is loaded."""
        for lane in self._lanes:
            lane.outlive()

    def answer(self, job: Job, port: Port) -> Answer:
        """Answer ``job``; blocks."""
        self._heads.restore(job.head, job.text, port, stop=lambda: self._stopping)
        answer = Answer()

        def read(chunk: dict[str, Any]) -> bool:  # True ends the generation
            known = len(answer.texts)
            answer.read(chunk)
            if job.hear is not None:
                for text in answer.texts[known:]:
                    job.hear(text)
            return job.abandoned or self._stopping

        try:
            port.server.handle_chat_completions(job.body, read)
        except ValueError as error:  # what llama.cpp finds wrong before it starts
            answer.error = {"type": "invalid_request_error", "message": str(error)}
        if self._stopping and answer.finish_reason is None and answer.error is None:
            raise _unloaded()
        if answer.finish_reason is not None:
            port.text = job.text
        return answer

    @property
    def folder(self) -> str:
        """Where llama.cpp may write."""
        return self._heads.folder


class _Lane:
    """One llama.cpp and the thread that waits for it; both start with the first job."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._port: Port | None = None
        self._process = 0

    def take(self, job: Job | None) -> None:
        """Answer ``job``; ``None`` ends the thread."""
        self._inbox.put(job)
        if self._thread is None and job is not None:
            # A daemon, as the end of the process must not wait for an answer that takes minutes; see `Engine.stop`.
            self._process = os.getpid()
            self._thread = threading.Thread(target=self._work, name="dspex-local", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while (job := self._inbox.get()) is not None:
            while job is not None:
                if job.set_running_or_notify_cancel():
                    try:
                        if self._port is None:
                            self._port = _started(self._engine.setup, self._engine.folder)
                        answer = self._engine.answer(job, self._port)
                    except BaseException as error:  # its owner's to handle, and the thread goes on
                        job.set_exception(error)
                    else:
                        job.set_result(answer)
                job = self._engine.next_job(self)

    def close(self, patience: float) -> None:
        """Unload the model, if the thread ends within ``patience`` seconds."""
        if self._thread is not None:
            self._thread.join(patience)
            if self._thread.is_alive() or self._process != os.getpid():
                # The machine is too busy to reach the next token in time; or the thread stayed in the parent.
                self.outlive()
        self._port = None  # the server's destructor ends llama.cpp's own threads

    def outlive(self) -> None:
        """Never unload the model, not even when the interpreter takes itself apart."""
        if self._port is not None:
            _keep(self._port.server)


def _unloaded() -> LMConnectionError:
    return LMConnectionError("the embedded model was unloaded before it had answered")


def _started(setup: Setup, folder: str) -> Port:
    with _starting:  # what llama.cpp sets up for the whole process is not safe for threads
        return _server(setup, folder)


def _server(setup: Setup, folder: str) -> Port:
    xllamacpp = load_binding()
    path, requirement = setup.weights
    params = xllamacpp.CommonParams()
    params.model.path = str(path if requirement is None else repacked(path, requirement))
    params.verbosity = -1
    params.n_parallel = 1
    params.n_ctx = setup.context
    params.n_batch = params.n_ubatch = 256  # after each of which it can be stopped
    params.cpuparams.n_threads = setup.threads
    params.cpuparams_batch.n_threads = setup.threads
    params.n_gpu_layers = 0
    params.warmup = False
    params.cache_ram_mib = 0  # `heads` does more with less
    params.slot_save_path = folder
    # It opens a port of this machine in any case: nobody else gets an answer there.
    key = secrets.token_hex()
    params.api_keys = [key]
    params.n_threads_http = 1
    params.endpoint_slots = False
    params.ui = False
    try:
        return Port(xllamacpp.Server(params), key)
    except Exception as error:  # the binding raises whatever llama.cpp threw
        raise LMRequestError(
            f"{str(path)!r} cannot be loaded as a model: {error} Is it a GGUF file, and does it fit into memory?"
        ) from error


def load_binding() -> Any:
    """The module xllamacpp, loaded as it should be."""
    # Threads that spin while they wait starve each other on shared cores. OpenMP reads this when it is loaded,
    # and it is not meant for the programs that this one starts.
    given = os.environ.get("OMP_WAIT_POLICY")
    os.environ["OMP_WAIT_POLICY"] = given or "passive"
    try:
        import xllamacpp
    finally:
        if given is None:
            del os.environ["OMP_WAIT_POLICY"]
    return xllamacpp


_engines: dict[Setup, Engine] = {}
_lock = threading.Lock()
_starting = threading.Lock()
_ended = False


def engine_of(setup: Setup) -> Engine:
    """This process's engine of that setup."""
    with _lock:
        if _ended:
            raise LMRequestError("the interpreter is ending, and loads no model any more")
        engine = _engines.get(setup)
        if engine is None:
            engine = _engines[setup] = Engine(setup)
        return engine


def stop_engines() -> None:
    """Unload all models; the next request loads its own again."""
    with _lock:
        engines = list(_engines.values())
        _engines.clear()
    for engine in engines:
        engine.stop()


def _end() -> None:
    global _ended
    _ended = True
    stop_engines()


def _after_fork() -> None:
    # The threads of the parent's engines are not here. The child leaves these alone and loads its own.
    global _lock, _starting
    for engine in _engines.values():
        engine.outlive()
    _engines.clear()
    _lock, _starting = threading.Lock(), threading.Lock()


def _keep(server: Any) -> None:
    """Have ``server`` never destroyed: its destructor waits for threads that may never end, or are not here."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(server))
    # When the process ends, llama.cpp's static objects would do the same.
    with suppress(AttributeError):  # where there is no glibc
        libc = ctypes.CDLL(None)
        libc.on_exit(libc._exit, None)


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
