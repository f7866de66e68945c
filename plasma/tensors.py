"""How a CPU tensor of torch lies in the store: as its bytes, uncopied both ways.

A tensor can't be read-only, and shared memory may not be written to. So what comes back is a view of pages
that are this process's own as soon as it writes to them (``buffer.writable``): nothing is copied until then,
nobody else sees it, and nothing crashes.

Only what numpy could describe goes this way: dense, contiguous, on the CPU, without a graph behind it. All
else is left to torch's own pickling.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["TENSOR_MODULES", "TENSOR_NAMES", "rebuild_tensor", "reduce_tensor"]

#: the classes, by name: torch is imported by whoever has tensors, never here first
TENSOR_NAMES = frozenset({"Tensor", "Parameter"})
TENSOR_MODULES = frozenset({"torch", "torch.nn.parameter"})


def reduce_tensor(tensor: Any) -> Any:
    """How a tensor is pickled; NotImplemented leaves it to torch."""
    import torch

    if (
        tensor.device.type != "cpu"
        or tensor.layout is not torch.strided
        or tensor.is_quantized
        or tensor.is_neg()
        or tensor.is_conj()
        or not tensor.is_leaf
        or not tensor.is_contiguous()
        or not tensor.numel()
        or tensor.__dict__
    ):
        return NotImplemented
    # Bytes, as numpy has no name for some of torch's types (bfloat16).
    flat = tensor.detach().reshape(-1).view(torch.uint8).numpy()
    name = str(tensor.dtype).removeprefix("torch.")
    is_parameter = type(tensor).__name__ == "Parameter"
    shape = tuple(tensor.shape)
    return rebuild_tensor, (pickle.PickleBuffer(flat), name, shape, tensor.requires_grad, is_parameter)


def rebuild_tensor(
    buffer: Buffer, dtype: str, shape: tuple[int, ...], requires_grad: bool, is_parameter: bool
) -> Any:
    """A tensor over ``buffer``, or over private pages of it if it may not be written to."""
    import torch

    from plasma.buffer import writable

    view = memoryview(buffer)
    flat = torch.frombuffer(writable(view) if view.readonly else view, dtype=torch.uint8)
    tensor = flat.view(getattr(torch, dtype)).reshape(shape)
    if is_parameter:
        return torch.nn.Parameter(tensor, requires_grad=requires_grad)
    return tensor.requires_grad_(requires_grad)
