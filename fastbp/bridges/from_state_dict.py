"""The layers of a PyTorch state dict, which has their numbers, and what it does not say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import check_name, plural, shown
from ..kernels.tables import ACTIVATIONS
from ..layers import Dense
from .torch_layers import Found, check_fits


def from_state_dict(state: Mapping[str, Any], layers: Sequence[Dense | str] | None) -> list[Found]:
    """The layers of a state dict: matrices are Linear, vectors with a mean are batch norm."""
    groups: dict[str, dict[str, Any]] = {}
    for key, tensor in state.items():
        prefix, _, name = str(key).rpartition(".")
        groups.setdefault(prefix, {})[name] = tensor
    found: list[Found] = []
    for prefix, numbers in _in_order(groups):
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


def _in_order(groups: dict[str, Any]) -> list[tuple[str, Any]]:
    """By place where they are a Sequential's (0, 2, 10, or net.0, ...), else as they come.

    Safetensors hands the tensors of a file out by dtype and alphabet.
    """
    places = {prefix: prefix.rpartition(".") for prefix in groups}
    numbered = all(place.isascii() and place.isdigit() for _, _, place in places.values())
    if not numbered or len({front for front, _, _ in places.values()}) > 1:
        return [*groups.items()]
    return sorted(groups.items(), key=lambda item: int(places[item[0]][2]))


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
