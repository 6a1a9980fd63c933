"""What pyproject.toml cannot state: the project's books and configs become data of the package, as mavl/shipped."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("concept_gen/books", "configs")


class BuildWithData(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # a checkout has them in their places
            for folder in SHIPPED:
                shutil.copytree(folder, Path(self.build_lib, "mavl", "shipped", folder), dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithData})
