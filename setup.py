"""Which folders are the package; everything else about it is in pyproject.toml.

configs/ and checkpoints/ stand at the top of the repository and are folders of the installed package.
"""

from setuptools import find_packages, setup

FOLDERS = {"dvcc.configs": "configs", "dvcc.checkpoints": "checkpoints"}

setup(
    packages=[*find_packages(include=["dvcc", "dvcc.*"]), *FOLDERS],
    package_dir=FOLDERS,
    package_data={
        "dvcc.configs": ["*.yaml", "*/*.yaml"],
        "dvcc.checkpoints": ["*"],
        **{f"dvcc.evaluation.{folder}": ["*.html", "page.*"] for folder in ("compare", "control", "pages")},
    },
)
