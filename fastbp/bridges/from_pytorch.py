"""PyTorch modules and state dicts as a network.

A bias in front of batch norm, which PyTorch keeps and a network has not, is subtracted again with
the mean: it is taken off the running mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from ..errors import check_name, check_probability, naming, plural, shown
from ..kernels.tables import ACTIVATIONS
from ..layers import BatchNorm, Dense
from .torch_modules import NAMES, SETTINGS, SigmaBatchNorm1d

_COMMUTE: Final = ("identity", "relu", "leaky_relu")  # f(c z) = c f(z) for c >= 0


class Found:
    """One layer of what is read: its linear part, its batch norm, and the rest of its `Dense`."""

    def __init__(self, where: str, weight: Any, bias: Any) -> None:
        self.where = where
        self.W = _numbers(weight, where).T
        self.b = np.zeros(self.W.shape[1]) if bias is None else _numbers(bias, where)
        self.norm: dict[str, Any] = {}
        self.batch_norm: BatchNorm | bool = False
        self.activation: str | None = None
        self.identity = False  # an nn.Identity stood between Linear and batch norm
        self.dropout = 0.0

    def take_norm(self, where: str, numbers: Mapping[str, Any]) -> None:
        """Scale, shift and running statistics; those that are None are the identity's."""
        if numbers.get("running_mean") is None or numbers.get("running_var") is None:
            raise ValueError(f"{where} has no running statistics: track_running_stats must be True")
        units = self.W.shape[1]
        identity = {"weight": np.ones(units), "bias": np.zeros(units)}
        for name in ("weight", "bias", "running_mean", "running_var"):
            value = numbers.get(name)
            array = identity[name] if value is None else _numbers(value, where)
            if array.shape != (units,):
                raise ValueError(
                    f"{where} normalises {plural(len(array), 'unit')}, but the Linear before it "
                    f"({self.where}) has {units}"
                )
            self.norm[name] = array

    def dense(self) -> Dense:
        """The description."""
        norm = self.batch_norm
        if self.identity and self.activation is None and isinstance(norm, BatchNorm):
            norm = replace(norm, position="after")
        return Dense(
            self.W.shape[1], self.activation or "identity", batch_norm=norm, dropout=self.dropout
        )

    def fill(self, layer: Any) -> None:
        """Put the numbers into the network's layer."""
        layer.W = self.W
        if self.norm:
            layer.gamma, layer.beta = self.norm["weight"], self.norm["bias"]
            layer.running_mean = self.norm["running_mean"]
            layer.running_variance = self.norm["running_var"]
        if layer.b is not None:
            layer.b = self.b
        else:  # batch norm would subtract it with the mean
            layer.running_mean = self.norm["running_mean"] - self.b


def _numbers(tensor: Any, where: str) -> Any:
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{where}={shown(tensor)} must be a tensor")
    if tensor.is_complex() or tensor.is_quantized:
        raise TypeError(f"{where} is of dtype {tensor.dtype}; give real floating-point weights")
    if tensor.is_meta:
        raise TypeError(f"{where} is on the meta device, without numbers; load its weights first")
    return tensor.detach().cpu().to(torch.float64).numpy()


def read(
    cls: Any,
    source: Any,
    layers: Sequence[Dense | str] | None,
    output: str | None,
    *,
    dtype: Any,
    **options: Any,
) -> Any:
    """`Network.from_torch`."""
    if isinstance(source, nn.Module):
        if layers is not None:
            raise TypeError("layers is for a state dict: a module says itself what its layers are")
        found, tensors = _from_module(source), [*source.parameters()]
    elif isinstance(source, Mapping):
        found, tensors = _from_state(source, layers), [*source.values()]
    else:
        hint = f"; give torch.load({shown(source)})" if isinstance(source, str | PathLike) else ""
        raise TypeError(f"source={shown(source)} must be an nn.Sequential or a state dict{hint}")
    last = found[-1]
    if output is not None:
        check_name("output", output, ACTIVATIONS)
        behind = last.dropout or (last.batch_norm and last.batch_norm.position == "after")  # type: ignore[union-attr]
        if behind or last.activation not in {None, "identity"}:
            raise ValueError(
                f"output={output!r}, but {last.where} has an activation, batch norm or dropout "
                "behind it already; leave output out"
            )
        last.activation = output
    if dtype is None:
        double = any(getattr(tensor, "dtype", None) == torch.float64 for tensor in tensors)
        dtype = "float64" if double else "float32"
    net = cls(found[0].W.shape[0], [part.dense() for part in found], dtype=dtype, **options)
    for layer, part in zip(net.layers, found, strict=True):
        part.fill(layer)
    return net


def _from_module(module: nn.Module) -> list[Found]:
    """The layers of a (nested) Sequential. What a module may follow is a matter of stages."""
    found: list[Found] = []
    stage = "linear"
    for where, part in _flat(module):
        _form_weights(part)
        if _is(part, nn.Linear):
            _fits(found, part.in_features, where)
            found.append(Found(where, part.weight, part.bias))
            stage = "linear"
        elif (_is(part, nn.Flatten) or _is(part, nn.Identity)) and not found:
            continue
        elif not found:
            raise ValueError(f"{where} comes before the first Linear: {_way_out(part)}")
        else:
            stage = _add(found[-1], stage, where, part)
    if not found:
        raise ValueError("source holds no nn.Linear: there is nothing to make a network of")
    return found


def _is(module: nn.Module, kind: type[nn.Module]) -> bool:
    """It is one, and computes what one computes."""
    own = "forward" in vars(module) or type(module).forward is not kind.forward
    return isinstance(module, kind) and not own


def _of_torch(hook: Any) -> bool:
    """A hook of PyTorch's own, which forms the weight that is there (pruning, weight norm)."""
    return type(hook).__module__.startswith("torch.nn.utils")


def _form_weights(module: nn.Module) -> None:
    """Have PyTorch's own hooks form the weight, as the next forward pass in eval mode would."""
    training = module.training
    module.training = False  # spectral norm then takes no step of its iteration
    try:
        for hook in module._forward_pre_hooks.values():
            hook(module, ())
    finally:
        module.training = training


def _flat(module: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """The modules of nested Sequentials in order, with their names for messages."""
    before = [hook for hook in module._forward_pre_hooks.values() if not _of_torch(hook)]
    if module._forward_hooks or before:
        raise ValueError(
            f"{type(module).__name__} {prefix}".rstrip() + " has forward hooks, which a network "
            "cannot run; remove them, or give its state_dict() with layers=[...]"
        )
    if not _is(module, nn.Sequential):
        name = type(module).__name__
        if (not prefix and not _is(module, nn.Linear)) or isinstance(module, nn.Sequential):
            raise TypeError(
                f"source is a {name}, whose forward can do anything; give an nn.Sequential, or "
                "module.state_dict() with layers=[...]"
            )
        return [(f"{name} {prefix}".rstrip(), module)]
    return [
        pair
        for name, child in module._modules.items()  # named_children leaves out what comes again
        if child is not None
        for pair in _flat(child, f"{prefix}.{name}" if prefix else name)
    ]


def _add(layer: Found, stage: str, where: str, part: nn.Module) -> str:
    """Give a module to its layer; the stage after it, in the order of a `Dense`."""
    kind = type(part)
    if _is(part, nn.BatchNorm1d) or _is(part, SigmaBatchNorm1d):
        if layer.batch_norm or stage == "dropout":
            raise _out_of_order(where, layer)
        if part.momentum is None:
            raise ValueError(f"{where} has momentum=None, a running mean of all batches; give 0.1")
        form = "sigma" if isinstance(part, SigmaBatchNorm1d) else "sqrt"
        position = "before" if stage == "linear" else "after"
        with naming(where):
            layer.batch_norm = BatchNorm(position, form, part.eps, part.momentum)
        names = ("weight", "bias", "running_mean", "running_var")
        layer.take_norm(where, {name: getattr(part, name) for name in names})
        return "linear" if position == "before" else "after"
    if _is(part, nn.Dropout):
        if stage == "dropout":
            raise _out_of_order(where, layer)
        with naming(where):
            layer.dropout = check_probability("dropout", part.p)
        return "dropout"
    if kind is nn.Identity and _is(part, kind):
        layer.identity |= stage == "linear" and not layer.batch_norm
        return stage
    if kind not in NAMES or not _is(part, kind):
        raise ValueError(f"{where} has no counterpart in a network: {_way_out(part)}")
    name = NAMES[kind]
    for setting, allowed in SETTINGS.get(name, ()):
        if getattr(part, setting) not in allowed:
            raise ValueError(
                f"{where} has {setting}={shown(getattr(part, setting))}; a network's {name} has "
                f"{' or '.join(shown(value) for value in allowed)}"
            )
    early = stage == "dropout" and layer.activation is None and name in _COMMUTE
    if stage != "linear" and not early:
        raise _out_of_order(where, layer)
    layer.activation = name
    return "dropout" if early else "activation"


def _out_of_order(where: str, layer: Found) -> ValueError:
    return ValueError(
        f"{where} stands where a network has no place for it: after {layer.where} the order is "
        "batch norm, activation, batch norm, dropout, one batch norm in all"
    )


def _way_out(part: nn.Module) -> str:
    if isinstance(part, nn.LogSoftmax):
        return "leave it out and give output='softmax' (its outputs are probabilities, not logs)"
    if _is(part, nn.Dropout):
        return "a network drops units of layers; for noise on inputs see Trainer(perturbation=...)"
    return f"it takes Linear, BatchNorm1d, Dropout, and {', '.join(t.__name__ for t in NAMES)}"


def _fits(found: list[Found], inputs: int, where: str) -> None:
    if found and found[-1].W.shape[1] != inputs:
        raise ValueError(
            f"{where} has {plural(inputs, 'input')}, but {found[-1].where} before it has "
            f"{plural(found[-1].W.shape[1], 'output')}"
        )


def _from_state(state: Mapping[str, Any], layers: Sequence[Dense | str] | None) -> list[Found]:
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
            _fits(found, weight.shape[1], where)
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
