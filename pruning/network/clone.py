"""Copies of networks that never run what they were copied from.

A copy drops what was compiled and binds methods to itself. What moves weights around, computes them, or holds on to the
network in a function is refused, with what to do first. Wrappers (torch.compile, DataParallel) are taken off.
"""

import copy
import types
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from pruning.errors import Refused
from pruning.network.obstacles import HOOKS, MARK, STATE, check, empty, method_of, reaches, replaces, stands_in


def copied(net: nn.Module, tensor: Callable[[Tensor], Tensor], hooks: bool = True, runs: bool = True) -> nn.Module:
    """A copy of a network with what ``tensor`` makes of each of its tensors; without ``hooks``, nobody listens to it.

    One that never ``runs``, but is only written, leaves out whatever stands in for its methods.

    Raises:
        Refused: a copy would run the dense network, or cannot be made.
    """
    if runs:
        check(net)
    memo: dict[int, Any] = {id(t): tensor(t) for t in (*net.parameters(), *net.buffers())}
    return _twin(net, memo, tensor, hooks, runs)


def _twin(module: nn.Module, memo: dict[int, Any], tensor: Callable[[Tensor], Tensor], hooks: bool,
          runs: bool) -> nn.Module:
    """What ``copy.deepcopy`` gives, in a third of its time: it asks thousands of plain values how to copy each."""
    if id(module) in memo:
        return memo[id(module)]
    if any(own in vars(kind) for kind in type(module).__mro__ if not kind.__module__.startswith("torch.nn.")
           and kind is not object for own in STATE):
        return _deep(module, "", module, memo)
    twin = memo[id(module)] = type(module).__new__(type(module))
    for key, value in vars(module).items():
        if key == "_modules":
            vars(twin)[key] = {name: None if part is None else _twin(part, memo, tensor, hooks, runs)
                               for name, part in value.items()}
        elif key in ("_parameters", "_buffers"):
            vars(twin)[key] = {name: t if t is None else memo[id(t)] for name, t in value.items()}
        elif key in HOOKS:
            kept = {i: _bound(hook, memo) for i, hook in value.items()} if hooks else {}
            vars(twin)[key] = type(value)(kept)
        elif isinstance(value, dict | set | list) and not value:
            vars(twin)[key] = type(value)()
        elif key != "_compiled_call_impl" and (runs or not stands_in(module, key, value)):
            _carry(module, twin, key, value, memo, tensor)
    return twin


def _carry(module: nn.Module, twin: nn.Module, key: str, value: Any, memo: dict[int, Any],
           tensor: Callable[[Tensor], Tensor]) -> None:
    """Give a copy one of the things that a module has besides tensors and parts."""
    if replaces(module, key, value):
        rebind(module, twin, key, value)
    elif key == MARK or empty(value) or isinstance(value, types.FunctionType):
        vars(twin)[key] = value
    elif isinstance(value, Tensor):
        vars(twin)[key] = memo.setdefault(id(value), tensor(value))
    else:
        vars(twin)[key] = _deep(module, key, value, memo)


def rebind(owner: Any, twin: Any, key: str, value: Any) -> None:
    """Bind a method of an owner's own to its copy; one that was only compiled is left to the class."""
    function = method_of(owner, value)
    if function is not None and function is not getattr(type(owner), key, None):
        vars(twin)[key] = types.MethodType(function, twin)
    else:
        vars(twin).pop(key, None)


def _bound(hook: Any, memo: Mapping[int, Any]) -> Any:
    """A hook, bound to a module's copy where it is bound to the module."""
    if isinstance(hook, types.MethodType) and isinstance(hook.__self__, nn.Module) and id(hook.__self__) in memo:
        return types.MethodType(hook.__func__, memo[id(hook.__self__)])
    return hook


def _deep(module: nn.Module, key: str, value: Any, memo: dict[int, Any]) -> Any:
    try:
        return copy.deepcopy(value, memo)
    except (TypeError, RuntimeError, AttributeError) as error:  # locks, streams, tensors with a history
        raise Refused(f"{f'{key} of a' if key else 'A'} {type(module).__name__} cannot be copied: "
                      f"{str(error).splitlines()[0] if str(error) else type(error).__name__}.",
                      "Take it off, prune, and put it on what comes of it.") from error


def around(pipe: Any) -> Any:
    """A copy of a pipeline that shares its components; its own methods are bound to it.

    Raises:
        Refused: a method was replaced by what goes on with the old pipeline.
    """
    twin = copy.copy(pipe)
    nets = [net for net in vars(pipe).values() if isinstance(net, nn.Module)]
    tree = {id(part) for net in nets for part in net.modules()} | {id(pipe)}
    for key, value in list(vars(pipe).items()):
        if not replaces(pipe, key, value) or isinstance(value, type):
            continue
        function = method_of(pipe, value)
        if function is None or reaches(function, tree):
            raise Refused(f"{type(pipe).__name__} has a {key} that is not its class's: a copy would still run the "
                          "dense model.", "Undo the patch, prune, and patch the pruned pipeline.")
        rebind(pipe, twin, key, value)
    return twin
