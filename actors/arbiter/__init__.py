"""The register that decides who may write, and its drivers."""
