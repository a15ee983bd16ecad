"""Stand-in for PEFT's CUDA extension of BOFT, so that m > 1 runs on a CPU.

PEFT asks `get_fbd_cuda()` for one function that spreads blocks [N, D, b, b] over block-diagonal matrices
[N, D*b, D*b]. Without it PEFT silently trains m = 1. Only that function is replaced; everything else is PEFT's.
"""

import torch


class CpuBlockDiagonal:
    @staticmethod
    def forward(blocks):
        return [torch.stack([torch.block_diag(*level) for level in blocks])]


def install():
    import peft.tuners.boft.layer as layer

    layer.get_fbd_cuda = lambda: CpuBlockDiagonal
