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
X86 = platform.machine().lower() in {"x86_64", "amd64"} and sys.maxsize > 2**32

# The features that processor.c looks for, no more.
LEVELS = {"baseline": []}
if X86:
    LEVELS["avx2"] = ["-mavx2", "-mfma"]
    LEVELS["avx512"] = ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", *LEVELS["avx2"]]


class BuildCore(build_ext):
    """Compiles core.c once for each number type and instruction set, and links the objects with the module."""

    def build_extension(self, ext: Extension) -> None:
        """Compiles the kernels, then the module."""
        macros = [*ext.define_macros, *([("KMIXUP_X86", "1")] if X86 else [])]
        # Products and sums may fuse. Nothing may be reordered or flushed to zero, and nothing of the kind is linked.
        flags = ["-O3", "-ffp-contract=fast", "-fno-math-errno"]
        levels = LEVELS
        if self.compiler.compiler_type == "msvc":
            if clang := shutil.which("clang-cl"):  # has vector types, which MSVC lacks: there, a vector is one number
                self.compiler.initialize()
                self.compiler.cc = clang
                flags = ["/O2", "-Xclang", "-ffp-contract=fast"]
            else:
                flags, levels = ["/O2", "/fp:contract"], {level: [] for level in LEVELS}
        for level, features in levels.items():
            for real in ("float", "double"):
                ext.extra_objects += self.compiler.compile(
                    [str(SOURCE / "core.c")],
                    output_dir=str(Path(self.build_temp, level, real)),
                    macros=[*macros, ("REAL", real), ("ISA", level)],
                    extra_postargs=[*flags, *features],
                    depends=ext.depends,
                )
        ext.define_macros = macros
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
