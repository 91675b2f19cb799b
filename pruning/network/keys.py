"""The names of a component's tensors: those in its files, those of its network, and where the two do not fit.

Old names are renamed as the component's own library does. Reads no values.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

T = TypeVar("T")
PREFIXES = ("_orig_mod.", "module.")  # what torch.compile and DataParallel put before the names of all tensors


def prefixed(stored: Collection[str]) -> bool:
    """Whether a network was saved together with its wrapper, so that all of its names begin with that."""
    return bool(stored) and any(all(key.startswith(prefix) for key in stored) for prefix in PREFIXES)


def named_in(net: nn.Module, stored: Mapping[str, T]) -> dict[str, T]:
    """What files hold, under the names that it has in a network; of parts that the library would join, the last one."""
    while prefixed(stored):
        stored = {key.partition(".")[2]: value for key, value in stored.items()}
    if hasattr(net, "_fix_state_dict_keys_on_load"):
        return dict(net._fix_state_dict_keys_on_load(dict(stored)))  # type: ignore[operator]
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    steps: list[Any] = get_model_conversion_mapping(net)  # type: ignore[arg-type]
    names = [step for step in steps if isinstance(step, WeightRenaming)]
    joined = [step for step in steps if isinstance(step, WeightConverter)]
    state, base = net.state_dict(), str(getattr(net, "base_model_prefix", ""))
    return {rename_source_key(key, names, joined, base, state)[0]: stored[key] for key in sorted(stored)}


def aliases(net: nn.Module) -> dict[str, list[str]]:
    """All names of each parameter that has several, under each of them."""
    names: dict[int, list[str]] = {}
    for name, parameter in net.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {name: group for group in names.values() if len(group) > 1 for name in group}


def fault(net: nn.Module, stored: Mapping[str, Mapping[str, Any]]) -> str:
    """The first tensor whose name, shape or kind in the files is not the network's; empty when all fit.

    ``stored`` has "dtype" and "shape" of each, as the headers of safetensors do.
    """
    return next(faults(net, named_in(net, stored)), "")


def faults(net: nn.Module, found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What of the tensors that files hold does not fit a network, by its own names; the missing ones first."""
    wanted, same = net.state_dict(), aliases(net)
    spare = _pattern(net, "_keys_to_ignore_on_load_missing")
    for key in wanted:
        if key not in found and not any(name in found for name in same.get(key, ())) and not spare.search(key):
            yield f"{key} is missing"
    for key, entry in found.items():
        if key not in wanted:
            if not _left_over(net, key):
                yield f"{key} is unknown to its config"
        elif wanted[key].is_floating_point() and not str(entry["dtype"]).startswith(("F", "BF")):
            yield f"{key} holds whole numbers ({entry['dtype']}), as quantized ones do"
        elif list(wanted[key].shape) != list(entry["shape"]):
            yield f"{key} is of another shape: {list(entry['shape'])}, and {list(wanted[key].shape)} is expected"


def _left_over(net: nn.Module, key: str) -> bool:
    """Whether a tensor in the files may be one too many: tables that are computed now, the other half of a CLIP."""
    if _pattern(net, "_keys_to_ignore_on_load_unexpected").search(key):
        return True
    if key in dict(net.named_buffers()) or key.endswith(("position_ids", "rotary_emb.inv_freq")):
        return True
    of_transformers = not hasattr(net, "_fix_state_dict_keys_on_load")
    return of_transformers and key.partition(".")[0] not in dict(net.named_children())


def _pattern(net: nn.Module, name: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in getattr(net, name, None) or ()) or r"(?!)")


def tensors_of(net: nn.Module) -> dict[str, Mapping[str, Any]]:
    """What the headers of a network's files would say of it."""
    return {key: {"dtype": _kind(tensor), "shape": list(tensor.shape)} for key, tensor in net.state_dict().items()}


def _kind(tensor: Tensor) -> str:
    return "F" if tensor.is_floating_point() else "I"
