"""Check everything that a run restores from a checkpoint, before any of it is loaded."""

import inspect
import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from torch import Tensor
from torch.optim import Optimizer

from src.common.errors import InputError
from src.common.tensor_files import require_dense, state_dict_mismatch
from src.loggers.setup import LOGGED_ROWS, WANDB_ROWS

LARGEST_COUNT = 2**53  # of steps, batches, rows

_IMPLEMENTATION = {"foreach", "fused", "capturable", "differentiable"}
"""Options of an optimiser that do not change its state: a resumed run uses its own."""


def require_run_state(trainer: Trainer, module: LightningModule, checkpoint: Mapping[str, Any], path: Any) -> None:
    """Compare a checkpoint with a run that has not started: weights, counters, callbacks, optimiser states.

    Raises:
        InputError: a part is missing, or has keys, kinds, shapes or values that a run can't have.
    """
    step = checkpoint["global_step"]
    loops = checkpoint["loops"].get("fit_loop") if isinstance(checkpoint["loops"], Mapping) else None
    scaler = trainer.precision_plugin.state_dict()
    parts = [
        (trainer.fit_loop.state_dict(), loops, "loops.fit_loop"),
        (0, checkpoint.get(LOGGED_ROWS, 0), LOGGED_ROWS),
        (0 if (rows := checkpoint.get(WANDB_ROWS)) is not None else None, rows, WANDB_ROWS),
        (scaler, checkpoint.get(type(trainer.precision_plugin).__qualname__, scaler), "the loss scale"),
        ([], checkpoint["lr_schedulers"], "lr_schedulers"),
    ]
    for expected, given, name in parts:
        _require(path, _difference(expected, given, name))
    assert isinstance(loops, Mapping)
    loader = {"combined_loader": [{"epoch": 0, "batches": 0}]}
    _require(path, _difference(loader, loops["state_dict"], "loops.fit_loop.state_dict"))
    counted = loops["epoch_loop.manual_optimization.optim_step_progress"]["total"]["completed"]
    _require(path, "" if counted == step else f"global_step is {step}, but its loops counted {counted}")
    epoch, epochs = loops["epoch_progress"]["current"]["processed"], trainer.max_epochs
    if epochs not in (None, -1) and epoch > epochs:
        raise InputError(f"{path} is at epoch {epoch} of {epochs} already: increase trainer.max_epochs")
    _require_callbacks(trainer, checkpoint["callbacks"], path)
    _require_tensors(module, checkpoint, path)
    converted: Any = module
    if trainer.precision in ("16-true", "bf16-true", "64-true"):  # Lightning converts the module later
        converted = trainer.precision_plugin.convert_module(deepcopy(module))
    optimizers: Any = converted.configure_optimizers()
    states = checkpoint["optimizer_states"]
    if not isinstance(states, list) or len(states) != len(optimizers):
        found = len(states) if isinstance(states, list) else "no list of"
        _require(path, f"it has {found} optimiser states for {len(optimizers)} optimisers")
    for number, (optimizer, state) in enumerate(zip(optimizers, states, strict=True)):
        require_optimizer_state(optimizer, state, path, f"optimiser state {number}")
    if step and not any(state["state"] for state in states) and any(map(_keeps_state, optimizers)):
        _require(path, f"all optimiser states are empty after {step} steps")


def require_optimizer_state(optimizer: Optimizer, state: Any, path: Any, name: str = "the optimiser state") -> None:
    """Compare a saved state with that of `optimizer` after a step on each of its parameters.

    A fused step trusts the shapes of its state, and writes beyond the memory of smaller ones.

    Raises:
        InputError: parameters, options or entries differ in name, kind, shape or dtype, or a value is impossible.
    """
    if not isinstance(state, Mapping) or not {"state", "param_groups"} <= state.keys():
        _require(path, f"{name} has no state and param_groups")
    expected = optimizer.state_dict()["param_groups"]
    groups, entries = state["param_groups"], state["state"]
    if not isinstance(entries, Mapping) or not isinstance(groups, list) or len(groups) != len(expected):
        _require(path, f"{name} must have a mapping of states and {len(expected)} parameter groups")
    known: dict[Any, tuple[Tensor, int]] = {}
    options: list[dict[str, Any]] = []
    for group, saved, live in zip(expected, groups, optimizer.param_groups, strict=True):
        wanted = {key: _as_float(value) for key, value in group.items() if key not in _IMPLEMENTATION}
        given = saved
        if isinstance(saved, Mapping):
            given = {key: value for key, value in saved.items() if key not in _IMPLEMENTATION}
            wanted["initial_lr"] = wanted["lr"]  # added by the first step of a run
            given.setdefault("initial_lr", given.get("lr"))
        _require(path, _difference(wanted, given, f"{name}, options"))
        if given["params"] != group["params"]:
            _require(path, f"{name} belongs to other parameters than the model's")
        known |= {number: (one, len(options)) for number, one in zip(group["params"], live["params"], strict=True)}
        options.append(live | given)
    examples: dict[Any, Mapping[str, Any]] = {}
    for number, entry in entries.items():
        if number not in known:
            _require(path, f"{name} has an entry of an unknown parameter, {str(number)[:100]!r}")
        parameter, index = known[number]
        kind = (parameter.shape, parameter.dtype, index)
        if kind not in examples:
            try:
                examples[kind] = _state_after_a_step(type(optimizer), parameter, options[index])
            except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
                _require(path, f"{name} has impossible options: {' '.join(str(error).split())[:200]}")
        _require(path, _difference(examples[kind], entry, f"{name}, parameter {number}"))
        require_dense({key: value for key, value in entry.items() if isinstance(value, Tensor)}, path)


def keep_implementation(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Give a saved state the options of the optimiser that loads it, as far as they do not change the state."""
    own = [{key: group[key] for key in _IMPLEMENTATION & group.keys()} for group in optimizer.param_groups]
    state["param_groups"] = [saved | mine for saved, mine in zip(state["param_groups"], own, strict=True)]


def _require_tensors(module: LightningModule, checkpoint: Mapping[str, Any], path: Any) -> None:
    """Check the weights, their moving average, and the gradients of an unfinished window."""
    weights, parameters = module.state_dict(), dict(module.named_parameters())
    gradients, critics = checkpoint.get("gradients", {}), checkpoint.get("critic_values", {})
    for name, part in (("gradients", gradients), ("critic_values", critics)):
        _require(path, _difference({}, part, name))
    _require(path, _difference(dict.fromkeys(critics, 0.0), critics, "critic_values"))
    states = {
        "state_dict": weights,
        "gradients": {key: parameters[key] for key in gradients if key in parameters},
    }
    if "averaging_state" in checkpoint or "MovingAverage" in checkpoint["callbacks"]:
        states |= {"current_model_state": weights, "averaging_state": {"n_averaged": torch.tensor(0)}}
    for name, expected in states.items():
        given: Any = checkpoint.get(name)
        _require(path, _difference({}, given, name))
        differing = state_dict_mismatch(expected, given)
        _require(path, f"{name} does not match the model: {differing}" if differing else "")
        require_dense(given, path)
        # Loading converts dtypes, for which Lightning's averages and half-precision weights differ.
        _require(path, _first(_tensor_difference(one, one, f"{name}.{key}") for key, one in given.items()))


def _require_callbacks(trainer: Trainer, states: Any, path: Any) -> None:
    """Compare the states of the callbacks with those of new ones, and let each check its own values."""
    _require(path, _difference({}, states, "callbacks"))
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        state = states.get(callback.state_key)
        if state is None:
            continue
        fresh = {key: None if isinstance(one, Tensor) else one for key, one in callback.state_dict().items()}
        if isinstance(callback, Timer):  # its seconds are integers before the start
            fresh = {"time_elapsed": dict.fromkeys(callback.state_dict()["time_elapsed"], 0.0)}
        _require(path, _difference(fresh, state, f"callbacks.{callback.state_key}"))
        try:
            callback.load_state_dict(deepcopy(state))  # Lightning loads it again
        except (RecursionError, TypeError, ValueError) as error:
            _require(path, f"callbacks.{callback.state_key}: {error}")


def _keeps_state(optimizer: Optimizer) -> bool:
    group = optimizer.param_groups[0]
    return bool(_state_after_a_step(type(optimizer), group["params"][0], group))


def _state_after_a_step(kind: type[Optimizer], parameter: Tensor, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state that a new optimiser has for a parameter of this shape and dtype after one step."""
    accepted = inspect.signature(kind).parameters.keys() & options.keys() - {"params"}
    probe = torch.zeros(parameter.shape, dtype=parameter.dtype, requires_grad=True)
    optimizer = kind([probe], **{key: options[key] for key in accepted})
    for key in _IMPLEMENTATION & options.keys():
        optimizer.param_groups[0][key] = options[key]
    probe.grad = torch.zeros_like(probe)
    optimizer.step()
    return dict(optimizer.state[probe])


def _require(path: Any, problem: str) -> None:
    if problem:
        raise InputError(
            f"{path} can't be resumed: {problem}: use another checkpoint, or start a new run from its weights with "
            f"start_from={path}"
        )


def _difference(expected: Any, given: Any, name: str) -> str:
    """Describe the first difference between a saved value and one of a new run; empty if there is none.

    The keys of mappings and the kinds of values must be equal; an empty mapping or list in `expected` accepts others of
    any content, and None accepts anything. Counts must lie in [-1, LARGEST_COUNT] (-1 where the last batch of
    an epoch is saved at the start of the next one), and other numbers must be finite.
    """
    wanted = ""
    match expected:
        case None:
            pass
        case Mapping() if not isinstance(given, Mapping):
            wanted = "a mapping"
        case Mapping():
            if expected and (keys := expected.keys() ^ given.keys()):
                key = min(map(str, keys))
                return f"{name} {'lacks' if key in expected else 'has the unknown key'} {key[:100]!r}"
            return _first(_difference(one, given[key], f"{name}.{key}") for key, one in expected.items())
        case list() | tuple():
            if isinstance(given, list | tuple) and len(given) == (len(expected) or len(given)):
                pairs = enumerate(zip(expected, given, strict=False))
                return _first(_difference(one, other, f"{name}[{number}]") for number, (one, other) in pairs)
            wanted = f"a list of {len(expected)}" if expected else "a list"
        case bool() | str():
            wanted = "" if type(given) is type(expected) else type(expected).__name__
        case int():
            wanted = "" if type(given) is int and -1 <= given <= LARGEST_COUNT else "a count"
        case float():
            limit = LARGEST_COUNT if type(given) is int else 1e300
            wanted = "" if type(given) in (int, float) and abs(given) <= limit else "a finite number"
        case Tensor():
            return _tensor_difference(expected, given, name)
        case _:
            wanted = "" if type(given) is type(expected) else type(expected).__name__
    if not wanted:
        return ""
    shown = repr(given)[:100] if given is None or isinstance(given, int | float | str) else f"a {type(given).__name__}"
    return f"{name} is {shown}, expected {wanted}"


def _tensor_difference(expected: Tensor, given: Any, name: str) -> str:
    if not isinstance(given, Tensor):
        return f"{name} is a {type(given).__name__}, expected a tensor"
    kinds = [f"{one.dtype} {tuple(one.shape)}".removeprefix("torch.") for one in (given, expected)]
    if kinds[0] != kinds[1]:
        return f"{name} is {kinds[0]}, expected {kinds[1]}"
    if given.layout is not torch.strided or given.is_meta or given.is_quantized:
        return f"{name} is not a dense tensor"
    if given.is_floating_point() and not bool(given.isfinite().all()):
        return f"{name} is not finite"
    # Counts and means of squares
    if name.endswith((".step", "_sq", "square_avg", "n_averaged")) and bool((given < 0).any()):
        return f"{name} is negative"
    return ""


def _first(problems: Any) -> str:
    return next((problem for problem in problems if problem), "")


def _as_float(value: Any) -> Any:
    """Return an integer option as a number, as an option may be given as either."""
    if isinstance(value, tuple):
        return tuple(map(_as_float, value))
    return float(value) if type(value) is int and not math.isinf(value) else value
