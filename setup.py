"""Ships configs/ inside the wheel; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["gradrev_jax*", "gradrev_commands*"]), "gradrev_commands.configs"],
    package_dir={"gradrev_commands.configs": "configs"},
)
