"""Speed of large matrix products: the practical maximum of operations per second of a device."""

import time
from collections.abc import Callable

from cifar_models.runtime.device import Runtime

CALLS = 7  # the fastest one counts
# Side of the square matrices, and number of their products in one call, by device.
# On a GPU there are several products, so that the cost of the call is negligible.
PRODUCT_SIZE = {"gpu": 4096, "cpu": 2048}
PRODUCTS = {"gpu": 20, "cpu": 1}


def measure_matrix_products(runtime: Runtime) -> float:
    """Return the floating-point operations per second of large matrix products.

    The products have the precision of the training step, and are compiled in the same way.

    Args:
        runtime: Settings of the configured process.
    """
    import keras
    import tensorflow as tf

    device = "gpu" if tf.config.list_physical_devices("GPU") else "cpu"
    size, dtype = PRODUCT_SIZE[device], keras.config.dtype_policy().compute_dtype
    noise = tf.random.stateless_uniform((size, size), seed=(0, 0), minval=-1.0)
    left, right = tf.cast(noise, dtype), tf.cast(noise * (3 / size) ** 0.5, dtype)

    @tf.function(jit_compile=runtime.xla)
    def multiply(matrix):
        for _ in range(PRODUCTS[device]):
            matrix = tf.matmul(matrix, right)  # the scale of its entries stays the same
        return matrix

    return product_flops(size, PRODUCTS[device], lambda: float(multiply(left)[0, 0]))


def product_flops(size: int, products: int, multiply: Callable[[], object]) -> float:
    """Return the operations per second of the fastest of CALLS calls, after one untimed call.

    Args:
        size: Side of the square matrices.
        products: Number of matrix products in one call.
        multiply: Function that computes the products, and returns when they are finished.
    """
    multiply()
    seconds = []
    for _ in range(CALLS):
        began = time.perf_counter()
        multiply()
        seconds.append(time.perf_counter() - began)
    return products * 2 * size**3 / min(seconds)
