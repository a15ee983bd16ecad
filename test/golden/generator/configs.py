"""Short names for PEFT configurations."""

import functools

from peft import BOFTConfig, OFTConfig


def boft(size=0, factors=1, number=0, **kwargs):
    return functools.partial(
        BOFTConfig, boft_block_size=size, boft_block_num=number, boft_n_butterfly_factor=factors, **kwargs
    )


def oft(size=0, r=0, **kwargs):
    return functools.partial(OFTConfig, oft_block_size=size, r=r, **kwargs)
