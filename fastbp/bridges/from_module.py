"""The layers of a PyTorch module: nested Sequentials of what a network can run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from torch import nn

from ..errors import check_probability, naming, shown
from ..layers import BatchNorm
from .torch_layers import Found, check_fits
from .torch_modules import NAMES, SETTINGS, SigmaBatchNorm1d

_COMMUTE: Final = ("identity", "relu", "leaky_relu")  # f(c z) = c f(z) for c >= 0


def from_module(module: nn.Module) -> list[Found]:
    """The layers of a (nested) Sequential. What a module may follow is a matter of stages."""
    found: list[Found] = []
    stage = "linear"
    for where, part in _flat(module):
        _form_weights(part)
        if _is(part, nn.Linear):
            check_fits(found, part.in_features, where)
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
    take = next((take for kind, take in _TAKES.items() if _is(part, kind)), _take_activation)
    return take(layer, stage, where, part)


def _take_norm(layer: Found, stage: str, where: str, part: nn.Module) -> str:
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


def _take_dropout(layer: Found, stage: str, where: str, part: nn.Module) -> str:
    if stage == "dropout":
        raise _out_of_order(where, layer)
    with naming(where):
        layer.dropout = check_probability("dropout", part.p)
    return "dropout" if layer.dropout else stage  # of nothing it is no part


def _take_activation(layer: Found, stage: str, where: str, part: nn.Module) -> str:
    kind = type(part)
    if kind not in NAMES or not _is(part, kind):
        raise ValueError(f"{where} has no counterpart in a network: {_way_out(part)}")
    name = NAMES[kind]
    if name == "identity":
        layer.identity |= stage == "linear" and not layer.batch_norm
        return stage
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


_TAKES: Final[dict[type[nn.Module], Callable[[Found, str, str, nn.Module], str]]] = {
    nn.BatchNorm1d: _take_norm,
    SigmaBatchNorm1d: _take_norm,
    nn.Dropout: _take_dropout,
}
"""What takes a module of this type; any other is an activation or nothing."""


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
