"""The compiled core: an optional extension, one object per number type and instruction set.

With KMIXUP_REQUIRE_CORE=1 a build that fails is an error; otherwise kmixup is installed without the core.
All else is in pyproject.toml.
"""

import os
import platform
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCE = Path("src/kmixup/_native")
LIMITED_API = ("Py_LIMITED_API", "0x030B0000")  # from 3.11 on buffers belong to it

# The features that processor.c looks for, no more.
AVX2 = ["-mavx2", "-mfma"]
AVX512 = ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", *AVX2]


def levels(vectors: bool) -> dict[str, list[str]]:
    """The instruction sets to compile for, with their flags."""
    if vectors and sys.platform == "darwin":  # one object may serve both of a Mac's processors
        return {"baseline": [], "avx2": _of_x86(AVX2), "avx512": _of_x86(AVX512)}
    if vectors and platform.machine().lower() in {"x86_64", "amd64"} and sys.maxsize > 2**32:
        return {"baseline": [], "avx2": AVX2, "avx512": AVX512}
    return {"baseline": []}


def _of_x86(flags: list[str]) -> list[str]:
    return [word for flag in flags for word in ("-Xarch_x86_64", flag)]


class BuildCore(build_ext):
    """Compiles core.c once for each number type and instruction set, and links the objects with the module."""

    def build_extension(self, ext: Extension) -> None:
        """Compiles the kernels, then the module."""
        # A product and a sum may fuse. Nothing may be reordered or flushed to zero, and no such flag is linked.
        flags, vectors = ["-O3", "-g0", "-ffp-contract=fast", "-fno-math-errno"], True
        if self.compiler.compiler_type == "msvc":
            clang = shutil.which("clang-cl")
            vectors = clang is not None  # MSVC has no vector types: there a vector is one number
            flags = ["/O2", *(f"/clang:{flag}" for flag in flags)] if vectors else ["/O2"]
            if clang:
                self.compiler.initialize()
                self.compiler.cc = clang
        ext.extra_objects = [
            compiled
            for level, features in levels(vectors).items()
            for real in ("float", "double")
            for compiled in self.compiler.compile(
                [str(SOURCE / "core.c")],
                output_dir=str(Path(self.build_temp, level, real)),
                macros=[("REAL", real), ("ISA", level)],
                extra_postargs=[*flags, *features],
            )
        ]
        super().build_extension(ext)


core = Extension(
    "kmixup._native.core",
    [str(SOURCE / "module.c"), str(SOURCE / "processor.c")],
    depends=sorted(str(path) for path in SOURCE.iterdir() if path.suffix in {".c", ".h"}),
    define_macros=[LIMITED_API],
    py_limited_api=True,
    optional=os.environ.get("KMIXUP_REQUIRE_CORE", "0") in {"", "0"},
)

setup(ext_modules=[core], cmdclass={"build_ext": BuildCore}, options={"bdist_wheel": {"py_limited_api": "cp311"}})
