"""What pyproject.toml cannot say: the wheel has the clone's configs/ as genrec_jax/configs."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["genrec_jax*"]), "genrec_jax.configs"],
    package_dir={"genrec_jax.configs": "configs"},
    package_data={"genrec_jax.report": ["page.*"]},
)
