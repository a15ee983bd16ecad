"""Forward passes in float64. Hugging Face models cast to float32 inside (softmax, RMSNorm, rotary tables); in a
float64 run those casts would bring float32 noise into the expected values, so they are kept in float64."""

import contextlib

import torch
from torch.overrides import TorchFunctionMode


class KeepDouble(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        source = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if source is not None and source.dtype == torch.float64:
            if func is torch.Tensor.float:
                return source
            if kwargs.get("dtype") == torch.float32:
                kwargs["dtype"] = torch.float64
            args = tuple(torch.float64 if a is torch.float32 else a for a in args)
        return func(*args, **kwargs)


@contextlib.contextmanager
def all_double():
    torch.set_default_dtype(torch.float64)  # old PEFT multiplies by a torch.eye of the default type
    try:
        with KeepDouble():
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def tensors_of(inputs, double):
    result = {}
    for name, array in inputs.items():
        tensor = torch.from_numpy(array)
        result[name] = tensor.double() if double and tensor.is_floating_point() else tensor
    return result


def run(model, forward, inputs, double):
    """{output: float64 array} of one input set; the model is converted in place."""
    model = model.double() if double else model.float()
    model.eval()
    with torch.no_grad(), all_double() if double else contextlib.nullcontext():
        outputs = forward(model, tensors_of(inputs, double))
    return {name: value.detach().double().numpy() for name, value in outputs.items()}
