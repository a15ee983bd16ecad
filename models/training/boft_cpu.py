"""Lets PEFT train BOFT with several butterfly factors on a CPU.

PEFT multiplies butterfly factors only where its CUDA extension loads, and trains a single factor otherwise. Of that
extension it uses two functions; here they are in PyTorch. Everything else stays PEFT's own code.
"""

import peft.tuners.boft.layer
import torch


class BlockDiagonal:
    """`forward`: [N, D, b, b] -> [N, D·b, D·b] with the D blocks along the diagonal; `backward`: its gradient."""

    @staticmethod
    def forward(blocks: torch.Tensor) -> list[torch.Tensor]:
        count, width, size, _ = blocks.shape
        full = blocks.new_zeros(count, width, size, width, size)
        each = torch.arange(width)
        full[:, each, :, each, :] = blocks.transpose(0, 1)
        return [full.view(count, width * size, width * size)]

    @staticmethod
    def backward(gradient: torch.Tensor, blocks: torch.Tensor) -> list[torch.Tensor]:
        count, width, size, _ = blocks.shape
        each = torch.arange(width)
        picked = gradient.view(count, width, size, width, size)[:, each, :, each, :]
        return [picked.transpose(0, 1).contiguous()]


def install() -> None:
    peft.tuners.boft.layer.get_fbd_cuda = lambda: BlockDiagonal
