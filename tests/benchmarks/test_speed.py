"""benchmarks.speed: the kernels of a GPU sorted by what they do."""

from benchmarks.speed import by_kind

KERNELS = {
    "sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x64": 8.0,
    "sm80_xmma_wgrad_implicit_gemm_indexed_bf16bf16_bf16f32_f32_nhwckrsc_nhwc": 4.0,
    "void at::native::batch_norm_backward_elemt_channels_last_kernel<4, c10::BFloat16>": 7.0,
    "nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_TNT": 5.0,
    "void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<Flash_bwd_kernel_traits>": 3.0,
    "void at::native::unrolled_elementwise_kernel<at::native::direct_copy_kernel_cuda>": 2.0,
    "void at::native::vectorized_elementwise_kernel<8, at::native::threshold_kernel_impl>": 1.0,
    "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<FusedAdamMathFunctor>": 0.5,
    "triton_poi_fused_add_relu_3": 0.4,
    "void cub::DeviceScanKernel": 0.1,
}


def test_kernels_by_what_they_do_the_longest_first():
    assert list(by_kind(KERNELS).items()) == [
        ("convolutions", 12.0),
        ("BatchNorm", 7.0),
        ("matrix products", 5.0),
        ("attention", 3.0),
        ("copies and casts", 2.0),
        ("elementwise", 1.0),
        ("optimizer", 0.5),
        ("fused by the compiler", 0.4),
        ("other", 0.1),
    ]
