"""Twins of kernels for GPUs: the same names and signatures, for arrays of CuPy.

The kernels are CUDA C (``*.cu``), one thread a pixel, compiled by CuPy at first use and kept in its cache.
What calls :func:`fmbdask_kernels.temporal.temporal_features` or :func:`fmbdask_kernels.rates.rates` with an
array of CuPy gets their results as such arrays; CuPy is imported then, not before.
"""
