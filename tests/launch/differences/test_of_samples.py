"""The difference of two measurements in words: samples and groups count once, in digits that show it."""

import math

from quell.launch.differences.of_samples import difference_in_words


def test_contrasts_of_a_sample_and_images_of_a_patient_count_once() -> None:
    samples = {f"s{i}": [(31.0 + i, 30.0), (32.0, 31.0)] for i in range(6)}
    assert "(median of 6 images," in difference_in_words("psnr", samples, {})
    groups = {f"s{i}": f"p{i // 2}" for i in range(6)}
    words = difference_in_words("psnr", samples, groups)
    assert words.startswith("+2.25 dB (median of 3 groups") and words.endswith("p = 0.25)")


def test_a_difference_of_a_similarity_or_an_error_is_not_rounded_to_nothing() -> None:
    samples = {f"s{i}": [(0.912 + 1e-3 * i, 0.909 + 1e-3 * i)] for i in range(6)}
    assert difference_in_words("ms_ssim", samples, {}).startswith("+0.0030 (median")
    small = {f"s{i}": [(1.2e-5, 1.1e-5)] for i in range(6)}
    assert difference_in_words("rmse", small, {}).startswith("+1e-06 (median")


def test_images_without_finite_values_are_left_out_and_counted() -> None:
    samples = {"a": [(-math.inf, 30.0)], "b": [(31.0, 30.0)], "c": [(31.5, 30.0)], "d": []}
    assert difference_in_words("psnr", samples, {}).endswith("; 1 images without finite values of both are left out")
    assert difference_in_words("psnr", {"b": [(31.0, 30.0)]}, {}) == ""
