"""The kernels' machine code, made and read without a device."""
