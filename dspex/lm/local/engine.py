"""llama.cpp in this process: one engine a model file, started at its first request, ended with the interpreter.

An engine answers several requests at once, each in a *slot* of its own; a thread per slot waits for llama.cpp, which
lets go of Python's lock meanwhile. Nobody else ever waits inside llama.cpp: who asks holds a `Job`, from which he can
turn away at any moment, and the thread then ends the generation at its next token.
"""

from __future__ import annotations

import atexit
import os
import queue
import secrets
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, NamedTuple

from dspex.errors import LMRequestError
from dspex.lm.local.answer import Answer
from dspex.lm.local.heads import Heads
from dspex.lm.local.repack import repacked
from dspex.lm.local.weights import Weights
from dspex.lm.types import MessageBlock

__all__ = ["Engine", "Job", "Setup", "engine_of", "stop_engines"]

_PATIENCE = 5.0
"""Seconds that the end of the process waits for an answer to be broken off."""

_STATE_BYTES = 256 * 1024 * 1024
"""Memory for what evicted prompts have left behind; llama.cpp takes up to 8 GiB unless told."""


class Setup(NamedTuple):
    """What makes two engines different: the weights, and how much of the machine they may use."""

    weights: Weights
    slots: int
    context: int
    threads: int


class Job(Future[Answer]):
    """One request on its way: ``body`` for llama.cpp, and the messages it shares with others, if any."""

    def __init__(self, body: Mapping[str, Any], head: MessageBlock | None) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.abandoned = False

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        self.abandoned = True
        self.cancel()


class Engine:
    """One model file, loaded once; safe for threads. It starts with its first job."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._server: Any = None
        self._heads: Heads | None = None
        self._stopping = False
        # Daemons, as the end of the process must not wait for an answer that takes minutes; see `stop`.
        self._threads = [
            threading.Thread(target=self._work, args=(slot,), name=f"dspex-local-{slot}", daemon=True)
            for slot in range(setup.slots)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> None:
        """Have ``job`` answered as soon as a slot is free."""
        self._jobs.put(job)

    def stop(self) -> None:
        """Break off what is going on, and unload the model."""
        self._stopping = True
        for _ in self._threads:
            self._jobs.put(None)
        ends = time.monotonic() + _PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads) or _in_a_fork:
            # A prompt is being read, which nothing interrupts; or llama.cpp would wait for a thread of the parent.
            self.outlive()
        self._server = None  # whose destructor ends llama.cpp's own threads
        if self._heads is not None:
            self._heads.close()

    def outlive(self) -> bool:
        """Never unload the model, not even when the interpreter takes itself apart; whether there is one."""
        if self._server is None:
            return False
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._server))
        return True

    def _work(self, slot: int) -> None:
        while (job := self._jobs.get()) is not None:
            if self._stopping or not job.set_running_or_notify_cancel():
                continue
            try:
                answer = self._answer(job, slot)
            except BaseException as error:  # its owner's to handle, and the thread goes on
                job.set_exception(error)
            else:
                job.set_result(answer)
            del job  # not kept alive until the next one comes

    def _answer(self, job: Job, slot: int) -> Answer:
        with self._starting:
            if self._server is None:
                self._server, self._heads = _started(self.setup)
        server, heads = self._server, self._heads
        body = dict(job.body)
        if job.head is not None and heads is not None and heads.restore(job.head, slot):
            body["id_slot"] = slot
        answer = Answer()

        def read(chunk: dict[str, Any]) -> bool:  # True ends the generation
            answer.read(chunk)
            return job.abandoned or self._stopping

        try:
            server.handle_chat_completions(body, read)
        except ValueError as error:  # what llama.cpp finds wrong before it starts
            answer.error = {"type": "invalid_request_error", "message": str(error)}
        return answer


def _started(setup: Setup) -> tuple[Any, Heads | None]:
    xllamacpp = _loaded()
    params = xllamacpp.CommonParams()
    path, requirement = setup.weights
    params.model.path = str(path if requirement is None else repacked(path, requirement))
    params.verbosity = -1
    params.n_parallel = setup.slots
    params.n_ctx = setup.slots * setup.context
    params.n_batch = 512  # so that it is never deaf for long
    params.cpuparams.n_threads = setup.threads
    params.cpuparams_batch.n_threads = setup.threads
    params.n_gpu_layers = 0
    params.warmup = False
    params.cache_ram_mib = _STATE_BYTES >> 20
    # It opens a port of this machine in any case: nobody else gets an answer there.
    key = secrets.token_hex()
    params.api_keys = [key]
    params.n_threads_http = 1
    params.endpoint_slots = False
    params.ui = False
    heads = Heads(key)
    params.slot_save_path = heads.folder
    try:
        server = xllamacpp.Server(params)
    except Exception as error:  # the binding raises whatever llama.cpp threw
        heads.close()
        raise LMRequestError(
            f"{str(path)!r} cannot be loaded as a model: {error} Is it a GGUF file, and does it fit into memory?"
        ) from error
    heads.open(server)
    return server, heads


def _loaded() -> Any:
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
_in_a_fork = False


def engine_of(setup: Setup) -> Engine:
    """This process's engine of that setup."""
    with _lock:
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


def _after_fork() -> None:
    # The threads of the parent's engines are not here. The child leaves these alone and loads its own.
    global _in_a_fork, _lock
    _in_a_fork = True
    started = [engine.outlive() for engine in _engines.values()]
    _engines.clear()
    _lock = threading.Lock()
    if any(started):
        # At the end of the process, llama.cpp's static objects would wait for the parent's threads, too.
        import ctypes

        with suppress(AttributeError):  # where there is no glibc
            libc = ctypes.CDLL(None)
            libc.on_exit(libc._exit, None)


atexit.register(stop_engines)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
