"""The tree of what an objective asks for, as far as trials have shown it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dspex.trials import FrozenTrial
from dspex.variables import Domain

__all__ = ["Decisions"]

Options = Callable[[str, Domain[Any]], Sequence[Any]]


class _Node:
    """What comes after some decisions: another one, the end of the trial, or nobody knows yet."""

    __slots__ = ("children", "domain", "done", "is_end", "path")

    def __init__(self) -> None:
        self.path: str | None = None
        self.domain: Domain[Any] | None = None
        self.children: dict[str, _Node] = {}
        self.done: set[str] = set()  # the options below which every way has been gone to its end
        self.is_end = False


class Decisions:
    """Which ways through a define-by-run objective have been gone, and which are open.

    Args:
        options: The values that a variable may take, now; there may be more of them later.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._root = _Node()

    def add(self, trial: FrozenTrial) -> None:
        """Notes the way of a trial, as far as it has come.

        A trial that came to other variables than those before it, after the same decisions, is not on the tree.
        """
        way = [self._root]
        for path, domain in trial.distributions.items():
            node = way[-1]
            if node.path is None:
                node.path, node.is_end = path, False
            if node.path != path:
                return
            node.domain = domain
            way.append(node.children.setdefault(_key(trial.params[path]), _Node()))
        if not trial.state.is_finished:
            return
        if way[-1].path is None:
            way[-1].is_end = True
        for node, child in zip(reversed(way[:-1]), reversed(way[1:]), strict=True):
            if not self._is_done(child):
                return
            node.done.add(_key(trial.params[str(node.path)]))

    def review(self) -> None:
        """Looks again at which ways are open, because there are more options."""
        self._review(self._root)

    def _review(self, node: _Node) -> bool:
        node.done = {key for key, child in node.children.items() if self._review(child)}
        return self._is_done(node)

    def _is_done(self, node: _Node) -> bool:
        return node.is_end or (node.path is not None and all(_key(one) in node.done for one in self._at(node)))

    def _at(self, node: _Node) -> Sequence[Any]:
        assert node.path is not None
        assert node.domain is not None
        return self._options(node.path, node.domain)

    def open(
        self, path: str, options: Sequence[Any], params: Mapping[str, Any], running: Iterable[Mapping[str, Any]]
    ) -> list[Any]:
        """The options of ``path``, after the decisions ``params``, that lead to an end where nobody has been.

        Where a running trial stands before a decision that nobody knows, nobody else need go.
        """
        node: _Node | None = self._root
        others = list(running)
        while node is not None and node.path != path:
            if node.path is None or node.path not in params:
                return list(options)
            others = _that_chose(node.path, _key(params[node.path]), others)
            node = node.children.get(_key(params[node.path]))
        if node is None:
            node = _Node()
        return [one for one in options if self._leads_on(node, path, _key(one), others)]

    def _leads_on(self, node: _Node, path: str, key: str, running: list[Mapping[str, Any]]) -> bool:
        if key in node.done:
            return False
        there = _that_chose(path, key, running)
        return not there or self._ways(node.children.get(key), there, {}, 1) > 0

    def after(self, params: Mapping[str, Any]) -> tuple[str, Domain[Any]] | None:
        """The variable that comes after the decisions ``params``, as far as trials have shown."""
        node: _Node | None = self._root
        while node is not None and node.path in params:
            node = node.children.get(_key(params[str(node.path)]))
        if node is None or node.path is None or node.domain is None:
            return None
        return node.path, node.domain

    def is_open(self, running: Sequence[Mapping[str, Any]], *, fixed: Mapping[str, Any]) -> bool:
        """Whether there is a way that nobody has gone to its end and none of those that are ``running`` goes, of those
        on which the variables of ``fixed`` have their values there."""
        return self._ways(self._root, running, fixed, 1) > 0

    def _ways(
        self, node: _Node | None, running: Sequence[Mapping[str, Any]], fixed: Mapping[str, Any], most: int
    ) -> int:
        """So many ways below a node are open, or ``most``."""
        if node is None or (node.path is None and not node.is_end):
            return 0 if running else 1
        if node.path is None:
            return 0
        path = node.path
        # Who stands before this very decision is going to take one of them.
        undecided = sum(path not in params for params in running)
        found = 0
        for option in [fixed[path]] if path in fixed else self._at(node):
            key = _key(option)
            if key not in node.done:
                there = _that_chose(path, key, running)
                found += self._ways(node.children.get(key), there, fixed, most + undecided - found)
                if found >= most + undecided:
                    break
        return max(found - undecided, 0)


def _that_chose(path: str, key: str, running: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [params for params in running if path in params and _key(params[path]) == key]


def _key(value: Any) -> str:
    return repr(value)  # values need not be hashable, and 1 and True are two
