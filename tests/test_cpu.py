"""The precision of fp32 on a GPU: exact, or TF32 where a training takes it."""

import pytest
import torch

from mavl.cpu import PrecisionError, prepare_device


@pytest.fixture(autouse=True)
def _precisions_restored():
    matmul, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolutions.allow_tf32
    yield
    matmul.allow_tf32, convolutions.allow_tf32 = before


@pytest.mark.parametrize(
    ("arguments", "tf32"), [(("no", True), True), (("bf16", True), True), (("no",), False), ((), False)]
)
def test_products_and_convolutions_of_a_gpu_are_of_one_precision(arguments, tf32):
    prepare_device("cuda", *arguments)
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (tf32, tf32)
    assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")  # torch.compile reads this one


def test_a_cpu_refuses_fp16_and_leaves_the_gpus_precision():
    before = torch.backends.cudnn.allow_tf32
    with pytest.raises(PrecisionError, match="fp16 needs a GPU"):
        prepare_device("cpu", "fp16", True)
    prepare_device("cpu", "no", not before)
    assert torch.backends.cudnn.allow_tf32 == before
