"""JPEG XL files (ISO/IEC 18181): header, colours and pixels."""
