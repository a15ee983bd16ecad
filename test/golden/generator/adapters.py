"""Adapters as PEFT writes them, and what PEFT computes from the files it wrote."""

import contextlib
import dataclasses
import io
import json
import pathlib
import warnings
from typing import Any, Callable

import peft
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file

from . import precision, stand_in, weights

CURRENT = "0.21.0"
stand_in.install()


@dataclasses.dataclass(frozen=True)
class Adapter:
    """One adapter folder. `config` is a PEFT configuration or a callable making one."""

    name: str
    config: Callable[[], Any]
    seed: int
    note: str = ""
    expect: str = "ok"
    angle: float = 0.3
    """Standard deviation of the skew entries."""
    dtype: torch.dtype = torch.float32
    """What the file stores."""
    build: Callable[[], torch.nn.Module] | None = None
    """Another base than the case's (a head with another number of labels)."""
    swap: Callable[[torch.nn.Module], torch.nn.Module] | None = None
    """A replacement of modules that PEFT refuses by equivalent ones, before PEFT sees the model."""
    edit: Callable[[pathlib.Path], None] | None = None
    """Changes the saved files."""
    peft_version: str = CURRENT
    merged_differs: str = ""
    """Why PEFT's own merge is another function than its forward pass (empty: it must be the same)."""
    numpy_form: str = "unmerged"
    """Which of PEFT's two forms the numpy reference must reproduce; '' if none."""
    numpy_atol: float = 1e-9
    """How closely, where that is the float64 form (COFT and old PEFT round to float32 inside)."""
    read_today: bool = False
    """Also store what the file means to today's PEFT (form `current_f64`, by the numpy reference)."""
    extra: dict = dataclasses.field(default_factory=dict)
    """More fields for cases.json."""


@contextlib.contextmanager
def quiet():
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def base_of(adapter, build):
    model = (adapter.build or build)()
    return adapter.swap(model) if adapter.swap else model


def write(adapter, build, folder):
    """Makes the adapter with PEFT, fills it with seeded values and saves it as PEFT does."""
    with quiet():
        model = peft.get_peft_model(base_of(adapter, build), adapter.config())
        weights.randomise_adapter(model, adapter.seed, adapter.angle)
        model.save_pretrained(folder, save_embedding_layers="auto")
    (folder / "README.md").unlink(missing_ok=True)
    file = folder / "adapter_model.safetensors"
    if adapter.dtype != torch.float32:
        save_file({k: v.to(adapter.dtype) for k, v in load_file(file).items()}, file, metadata={"format": "pt"})
    if "num_labels" in adapter.extra and adapter.config().task_type is None:
        write_labels(folder, adapter.extra["num_labels"])
    if adapter.edit:
        adapter.edit(folder)


def write_labels(folder, count):
    """A head of another width comes with its model's labels, as transformers saves them in config.json."""
    labels = {str(i): f"class {i}" for i in range(count)}
    (folder / "config.json").write_text(json.dumps({"id2label": labels}, indent=1) + "\n")


def load(adapter, build, folder):
    with quiet():
        return peft.PeftModel.from_pretrained(base_of(adapter, build), folder)


def unmerged(adapter, build, folder, forward, inputs):
    """PEFT's unmerged forward in float64, freshly loaded from the files."""
    model = load(adapter, build, folder)
    return {name: precision.run(model, forward, arrays, True) for name, arrays in inputs.items()}


def merged(adapter, build, folder, forward, inputs):
    """After merge_and_unload() in float32, freshly loaded from the files."""
    with quiet():
        model = load(adapter, build, folder).merge_and_unload()
    return {name: precision.run(model, forward, arrays, False) for name, arrays in inputs.items()}


def merged_double(adapter, build, folder, forward, inputs):
    """The same in float64: tells a merge that rounds from a merge that is another function."""
    with quiet():
        model = load(adapter, build, folder).double().merge_and_unload()
    return {name: precision.run(model, forward, arrays, True) for name, arrays in inputs.items()}


def adapted_modules(adapter, build, folder):
    model = load(adapter, build, folder)
    return [
        name.removeprefix("model.")
        for name, module in model.base_model.named_modules()
        if isinstance(module, BaseTunerLayer)
    ]


def stacked(adapters, build, folders, forward, inputs, merge):
    """Several adapters active at once in PEFT, in the order given: {set: {output: array}}."""
    with quiet():
        model = peft.PeftModel.from_pretrained(
            base_of(adapters[0], build), folders[0], adapter_name=adapters[0].name
        )
        for adapter, folder in zip(adapters[1:], folders[1:]):
            model.load_adapter(folder, adapter_name=adapter.name)
        names = [a.name for a in adapters]
        model.base_model.set_adapter(names)
        if merge:
            model = model.merge_and_unload(adapter_names=names)
    return {name: precision.run(model, forward, arrays, not merge) for name, arrays in inputs.items()}
