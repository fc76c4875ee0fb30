"""The layers of a PyTorch state dict, which has their numbers, and what it does not say of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..errors import check_name, plural, shown
from ..kernels.tables import ACTIVATIONS
from ..layers import Dense
from .torch_layers import Found, check_fits

_NUMBER: Final = re.compile(r"([0-9]+)")
_PLACE: Final = re.compile(r"(?<![^.])([0-9]+)(?![^.])")  # in a Sequential: 0, or net.0.2


def from_state_dict(state: Mapping[str, Any], layers: Sequence[Dense | str] | None) -> list[Found]:
    """The layers of a state dict: matrices are Linear, vectors with a mean are batch norm."""
    groups: dict[str, dict[str, Any]] = {}
    for key, tensor in state.items():
        prefix, _, name = str(key).rpartition(".")
        groups.setdefault(prefix, {})[name] = tensor
    found: list[Found] = []
    for prefix, numbers in _in_order(groups, _is_alphabetical(state)):
        weight = numbers.get("weight")
        dotted = f"{prefix}." if prefix else ""
        where = f"source[{dotted + 'weight'!r}]"
        if getattr(weight, "ndim", 0) == 2:
            if "bias" not in numbers and "running_mean" in numbers:
                raise ValueError(f"{where} is neither a Linear's nor a BatchNorm1d's")
            check_fits(found, weight.shape[1], where)
            found.append(Found(where, weight, numbers.get("bias")))
        elif found and "running_mean" in numbers and not found[-1].norm:
            found[-1].take_norm(f"source[{dotted + 'running_mean'!r}]", numbers)
        else:
            known = ", ".join(sorted(numbers))
            raise ValueError(
                f"source: {prefix or 'the top'} holds {known}: neither the matrix of a Linear nor "
                "the first BatchNorm1d after one"
            )
    if not found:
        raise ValueError("source is an empty state dict: there is nothing to make a network of")
    _describe(found, layers)
    return found


def _is_alphabetical(state: Mapping[str, Any]) -> bool:
    """The order may be a file's: safetensors hands tensors out by dtype and alphabet.

    A module's own dict has metadata, and each weight before its bias.
    """
    keys: dict[Any, list[str]] = {}
    for key, tensor in state.items():
        keys.setdefault(getattr(tensor, "dtype", None), []).append(str(key))
    return not hasattr(state, "_metadata") and all(each == sorted(each) for each in keys.values())


def _in_order(groups: dict[str, Any], alphabetical: bool) -> list[tuple[str, Any]]:
    """By places in a Sequential (0, 2, 10), else as they come; of a file by any numbers.

    Raises:
        ValueError: a file's layers have names that do not tell their order, nor do their widths.
    """
    number = _NUMBER if alphabetical else _PLACE
    parts = {prefix: number.split(prefix) for prefix in groups}  # text, number, text, ...
    if not alphabetical and len({(*part[::2],) for part in parts.values()}) > 1:
        return [*groups.items()]
    natural = {p: [int(s) if i % 2 else s for i, s in enumerate(parts[p])] for p in groups}
    ordered = sorted(groups, key=natural.__getitem__)
    matrices = [p for p in ordered if getattr(groups[p].get("weight"), "ndim", 0) == 2]
    apart = len({(*parts[prefix][::2],) for prefix in matrices}) > 1  # by more than numbers
    if apart and _fit_otherwise([groups[prefix]["weight"].shape for prefix in matrices]):
        raise ValueError(
            "source has its keys in the order of the alphabet, as a file hands them out, and its "
            f"layers ({', '.join(matrices)}) fit together in other orders, too; give the "
            "state_dict() of a module that has loaded it, or name the layers by their places: "
            "0.weight, 0.bias, 1.weight, ..."
        )
    return [(prefix, groups[prefix]) for prefix in ordered]


def _fit_otherwise(shapes: list[Any]) -> bool:
    """Whether matrices (outputs, inputs) that fit together do so in another order, too.

    They are a walk from width to width, along each matrix once. It is the only one, unless it ends
    where it began or two parts of it, one behind the other, have the same two ends (P. Pevzner,
    "DNA physical mapping and alternating Eulerian cycles in colored graphs", 1995).
    """
    widths = [shapes[0][1], *(outputs for outputs, _ in shapes)]
    if widths[1:-1] != [inputs for _, inputs in shapes[1:]]:
        return False  # not even in this one, which is said elsewhere
    places = itertools.combinations(range(len(widths)), 2)
    pairs = [(i, p) for i, p in places if widths[i] == widths[p]]
    if len(shapes) > 1 and widths[0] == widths[-1]:
        return True
    return any(i < j <= p < q for (i, p), (j, q) in itertools.product(pairs, pairs))


def _describe(found: list[Found], layers: Sequence[Dense | str] | None) -> None:
    """Give the layers of a state dict what it does not say."""
    widths = [part.W.shape[1] for part in found]
    example = ", ".join(
        f"Dense({part.W.shape[1]}, ...{', batch_norm=True' if part.norm else ''})" for part in found
    )
    if layers is None:
        raise TypeError(f"a state dict does not say its activations; give layers=[{example}]")
    if isinstance(layers, str | Dense) or len(layers) != len(found):
        raise ValueError(f"layers must describe {plural(len(found), 'layer')}: [{example}]")
    for index, (part, given) in enumerate(zip(found, layers, strict=True)):
        dense = given
        if isinstance(given, str):
            check_name(f"layers[{index}]", given, ACTIVATIONS)
            dense = Dense(widths[index], given, batch_norm=bool(part.norm))
        if not isinstance(dense, Dense):
            raise TypeError(
                f"layers[{index}]={shown(given)} must be a Dense, or an activation's name"
            )
        if dense.units != widths[index] or bool(dense.batch_norm) != bool(part.norm):
            raise ValueError(
                f"layers[{index}]={shown(given)} does not fit {part.where}; give layers=[{example}]"
            )
        part.activation, part.dropout = dense.activation, dense.dropout
        part.batch_norm = dense.batch_norm
