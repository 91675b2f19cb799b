"""What keeps a network from being copied: parts that would run the dense one, weights that are not plain."""

import functools
import sysconfig
import types
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _WrappedHook
from torch.utils.hooks import RemovableHandle

from pruning.errors import Refused
from pruning.network.inputs import LAYERS

WRAPPERS = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module",
            "DeepSpeedEngine": "module"}  # class: where the network is that it hands every call to
INNER = ("module", "_orig_mod", "_fsdp_wrapped_module")  # what wrappers call the network inside
PLAIN = (bool, int, float, str, bytes, type(None), torch.dtype, torch.device)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
MARK = "prunescope_notes"  # the attribute of a network or pipeline that says what is known of it
STATE = ("__deepcopy__", "__getstate__", "__setstate__", "__reduce__", "__reduce_ex__")
LIBRARIES = tuple(map(sysconfig.get_path, ("stdlib", "purelib", "platlib")))  # their globals hold nobody's network
Obstacle = tuple[str, str]  # what is in the way, in a sentence that begins with its place, and what to do first


def unwrapped(net: Any) -> Any:
    """The network inside wrappers that only hand calls on, however many; anything else as it is."""
    while isinstance(net, nn.Module) and (kind := _kind(net, WRAPPERS)):
        net = getattr(net, WRAPPERS[kind])
    return net


def _kind(module: Any, names: Any) -> str | None:
    """The first of some class names that a module's class or one it derives from has."""
    return next((kind.__name__ for kind in type(module).__mro__ if kind.__name__ in names), None)


def check(net: nn.Module, label: str = "This network") -> None:
    """Refuse a network whose copy would run the dense one, or whose weights are not what its layers multiply with.

    Raises:
        Refused: with the place, the reason and what to do first.
    """
    for name, (what, remedy) in _obstacles(net):
        raise Refused(f"{name or label} {what}", remedy)


def hindrance(net: Any) -> str:
    """What keeps a network from being copied as it runs, beginning with the verb; nothing where nothing does."""
    return next((what for _, (what, _) in _obstacles(unwrapped(net))), "")


def compiled(owner: Any) -> bool:
    """Whether a network, or a part or a method of it, is compiled; of a pipeline, whether one of its own methods is."""
    parts = owner.modules() if isinstance(owner, nn.Module) else (owner,)
    return any(_kind(part, ("OptimizedModule",)) or getattr(part, "_compiled_call_impl", None) is not None
               or any(_plain(value) is not value for value in vars(part).values() if callable(value))
               for part in parts)


def _obstacles(net: nn.Module) -> Iterator[tuple[str, Obstacle]]:
    """(place, obstacle) of every module that has one; the network itself has the place ""."""
    tree = {id(part) for part in (*net.modules(), *net.parameters(), *net.buffers())}
    for name, module in net.named_modules():
        if found := obstacle(module, name) or next(strays(module, tree), None):
            yield name, found


def obstacle(module: nn.Module, name: str) -> Obstacle | None:
    """Why one module cannot be copied or pruned as it is."""
    if isinstance(module, torch.jit.ScriptModule):
        return "is TorchScript, whose code cannot be changed.", "Prune the model that it was made from."
    return moved(module) or altered(module, name)


def moved(module: nn.Module) -> Obstacle | None:
    """What puts a module's weights in their places while it runs."""
    own = vars(module)
    if "_hf_hook" in own:
        return ("has hooks of accelerate, which move weights or inputs (device_map, CPU offload): a copy would still "
                "run the dense model.", "Remove them with pipe.remove_all_hooks() first; of a bare model, with "
                "accelerate.hooks.remove_hook_from_module(model, recurse=True).")
    if hooks := list(getattr(own.get("_diffusers_hook"), "hooks", ())):
        return (f"has hooks of diffusers ({', '.join(hooks)}), which stand in for its forward: a copy would still run "
                "the dense model.", "Remove them first, with module._diffusers_hook.remove_hook(name, recurse=True) "
                "or disable_cache(), or load the model again without them.")
    return None


def altered(module: nn.Module, name: str) -> Obstacle | None:
    """Why a module's tensors are not those that its files would have, or not plain numbers."""
    own, tensors, buffers = vars(module), module._parameters, module._buffers
    if "base_layer" in module._modules:
        return "has a LoRA loaded.", "Fuse and unload it first: pipe.fuse_lora(), then pipe.unload_lora_weights()."
    if own.get("fused_projections"):
        return ("has its projections fused, so that those it was saved with are not used.",
                "Take them apart first: pipe.unfuse_qkv_projections().")
    return _wrapped(module, name) or _computed(module, tensors, buffers) or _unusual(module, tensors)


def _wrapped(module: nn.Module, name: str) -> Obstacle | None:
    """A network in another, whose layers have names that neither globs nor files have."""
    if name and (kind := _kind(module, WRAPPERS)):
        return (f"is wrapped in {kind}, so that its layers have other names than in the files.",
                f"Put what is inside ({WRAPPERS[kind]}) in its place first, or compile it in place: module.compile().")
    alone = len(module._modules) == 1 and next(iter(module._modules)) in INNER and not any(module.parameters(False))
    if (not name and alone) or _kind(module, ("FullyShardedDataParallel",)):
        return (f"is a {type(module).__name__} around another network, and what it adds is not known here.",
                "Prune the network that it was made from, and wrap what comes of it.")
    return None


def _computed(module: nn.Module, tensors: Mapping[str, Any], buffers: Mapping[str, Any]) -> Obstacle | None:
    """A layer whose weight is made of other tensors whenever it runs."""
    masked = next((key.removesuffix("_orig") for key in tensors if f"{key.removesuffix('_orig')}_mask" in buffers), "")
    if masked:
        return (f"has a {masked} masked by torch.nn.utils.prune.",
                f'Make masks permanent first: torch.nn.utils.prune.remove(layer, "{masked}").')
    if "parametrizations" in module._modules:
        key = next(iter(module.parametrizations))  # type: ignore[arg-type]
        return (f"has a {key} that is computed by a parametrization.",
                f'Make it permanent first: torch.nn.utils.parametrize.remove_parametrizations(layer, "{key}").')
    if "weight_g" in tensors and "weight_v" in tensors:
        return ("has a weight that is computed by weight_norm.",
                "Make it permanent first: torch.nn.utils.remove_weight_norm(layer).")
    if "weight_orig" in tensors and "weight_u" in buffers:
        return ("has a weight that is computed by spectral_norm.",
                "Make it permanent first: torch.nn.utils.remove_spectral_norm(layer).")
    return None


def _unusual(module: nn.Module, tensors: Mapping[str, Any]) -> Obstacle | None:
    """Tensors that do not hold plain numbers."""
    again = "Load the model again, whole and not quantized."
    for key, tensor in tensors.items():
        if tensor is not None and type(tensor) is not nn.Parameter:
            return f"has a {key} of class {type(tensor).__name__}: it is quantized, sharded or not made yet.", again
    if isinstance(module, LAYERS):
        weight = tensors.get("weight")
        if weight is None:
            return "has no weight of its own.", again
        if not weight.is_floating_point():
            return f"has a weight of type {str(weight.dtype).removeprefix('torch.')}: it is quantized.", again
        if not weight.numel():
            return "has an empty weight: it is sharded, or was never loaded.", again
    return None


def strays(module: nn.Module, tree: set[int]) -> Iterator[Obstacle]:
    """What of a module's own would go on with the network that it is copied from; ``tree`` has ids of all parts."""
    for key, value in vars(module).items():
        if key in ("_parameters", "_buffers", "_modules", "_compiled_call_impl", MARK) or empty(value):
            continue
        if key in HOOKS:
            if any(reaches(_function(hook, tree), tree, inside=True) for hook in value.values()):
                yield (f"has a hook ({key.strip('_').replace('_', ' ')}) that holds on to this model: of a copy, it "
                       "would still see the dense one.", "Remove the hook, prune, and register it on what comes of it.")
        elif replaces(module, key, value):
            function = method_of(module, value)
            if function is None or reaches(function, tree):
                yield (f"has a {key} that is not its class's: a copy would still run the dense model.",
                       "Undo the patch, prune, and patch what comes of it.")
        elif reaches(value, tree):
            yield (f"has in {key} a function that holds on to this model: a copy would still run the dense one.",
                   "Undo the patch, prune, and patch what comes of it.")


def empty(value: Any) -> bool:
    """Whether there is nothing in a value that could hold a network."""
    kind = type(value)
    return kind in PLAIN or (isinstance(value, dict | set | list | tuple) and not value) or (
        kind is tuple and all(type(part) in PLAIN for part in value))


def replaces(owner: Any, key: str, value: Any) -> bool:
    """Whether something of an object's own stands where its class has a method."""
    return callable(value) and not isinstance(value, nn.Module) and callable(getattr(type(owner), key, None))


def stands_in(module: nn.Module, key: str, value: Any) -> bool:
    """Whether something is there for running only: hooks of accelerate and diffusers, methods that were replaced."""
    return key in ("_hf_hook", "_old_forward", "_diffusers_hook") or replaces(module, key, value)


def method_of(owner: Any, value: Any) -> Callable[..., Any] | None:
    """The plain function of a method that is bound to its owner, compiled or not; None for what is bound elsewhere."""
    value = _plain(value)
    return _plain(value.__func__) if isinstance(value, types.MethodType) and value.__self__ is owner else None


def _plain(function: Any) -> Any:
    """A function as it was before it was compiled."""
    while (before := getattr(function, "_torchdynamo_orig_callable", None)) is not None:
        function = before
    return function


def _function(hook: Any, tree: set[int]) -> Any:
    """A hook without the module that it is bound to, where a copy can bind it to its own."""
    return hook.__func__ if isinstance(hook, types.MethodType) and id(hook.__self__) in tree else hook


def reaches(value: Any, tree: set[int], inside: bool = False) -> bool:
    """Whether a function somewhere in a value holds a part of a network; ``inside`` begins in a function.

    Copying an object copies what it holds, so that is not looked for; a function is never copied.
    """
    stack, seen = [(value, inside)], set[tuple[int, bool]]()
    while stack:
        value, inside = stack.pop()
        if (id(value), inside) in seen or type(value) in PLAIN:
            continue
        seen.add((id(value), inside))
        if inside and (id(value) in tree or (
                isinstance(value, nn.Module) and any(id(part) in tree for part in value.modules()))):
            return True
        stack.extend(_held(value, inside))
    return False


def _held(value: Any, inside: bool) -> Iterator[tuple[Any, bool]]:
    """What a value holds, and whether that is in a function, which is never copied."""
    match value:
        case Tensor() | nn.Module() | type() | types.ModuleType() | RemovableHandle():
            return
        case types.FunctionType():
            yield from ((part, True) for part in _closed_over(value))
        case types.BuiltinMethodType():
            yield value.__self__, True
        case types.MethodType():
            yield from ((value.__func__, inside), (value.__self__, inside))
        case weakref.ref():
            yield value(), True
        case _WrappedHook():
            yield value.hook, inside
        case functools.partial():
            yield from ((part, inside) for part in (value.func, *value.args, *value.keywords.values()))
        case Mapping():
            yield from ((part, inside) for part in value.values())
        case list() | tuple() | set() | frozenset():
            yield from ((part, inside) for part in value)
    yield from ((part, inside) for part in getattr(value, "__dict__", {}).values())


def _closed_over(function: types.FunctionType) -> Iterator[Any]:
    """What a function has at hand besides its arguments: its closure, its defaults, globals that are no library's."""
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    if not function.__code__.co_filename.startswith(LIBRARIES):
        yield from (function.__globals__[name] for name in _names(function.__code__) if name in function.__globals__)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield from _names(part)
