"""`python -m fuzz`: build the native core with sanitizers, seed the fuzzer with the corpus, and let it run.

Owns how the target is built and started. What is tried and compared is target.py's. Needs clang with its runtime
libraries (Debian: clang, libclang-rt-dev), Cython, and a Python that comes as a shared library; says so when one is
missing.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support import corpus  # noqa: E402 - found from the root, wherever this is called

SANITIZERS = "address,undefined"
WORDS = (
    "clogging\nLogRecord\n", "cdatetime\ndatetime\n", "cdecimal\nDecimal\n", "cuuid\nUUID\n", "c_codecs\nencode\n",
    "ccopy_reg\n_reconstructor\n", "c__builtin__\nset\n", "ccollections\nOrderedDict\n", "cpathlib\nPosixPath\n",
    "name", "msg", "levelno", "levelname", "created", "exc_text", "extra", "latin1", "shop", "(dp0\n", "\x80\x04\x95",
    "nan", "inf", "\xed\xa0\x80", "\xe2\x80\xa8",
)  # fmt: skip
"""What the fuzzer would take long to find by itself."""


def main() -> int:
    """Return the fuzzer's exit status: 0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="how long to look for new inputs (default: 60)")
    parser.add_argument("--corpus-only", action="store_true", help="try the corpus alone, nothing new")
    parser.add_argument("--keep", type=Path, help="directory that keeps inputs between runs (default: a temporary one)")
    parser.add_argument("--jobs", type=int, default=1, help="processes beside one another (default: 1)")
    parser.add_argument("--longest", type=int, default=25, help="seconds that one input may take (default: 25)")
    arguments = parser.parse_args()
    if shutil.which("clang") is None:
        print("fuzz: no clang on PATH; on Debian: apt-get install clang libclang-rt-dev", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="prefork-logd-fuzz-") as scratch:
        work = Path(scratch)
        harness, extension = build(work)
        seeds = arguments.keep or work / "inputs"
        seed(seeds)
        dictionary = work / "words"
        dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in WORDS))
        limit = ["-runs=0"] if arguments.corpus_only else [f"-max_total_time={arguments.seconds}"]
        options = [*limit, f"-dict={dictionary}", f"-timeout={arguments.longest}"]
        return fuzz(harness, extension, seeds, options, arguments.jobs, looks_for_leaks=arguments.corpus_only)


def _escaped(word: str) -> str:
    return "".join(f"\\x{octet:02x}" for octet in word.encode("latin-1"))


def build(work: Path) -> tuple[Path, Path]:
    """Compile the extension and the harness with sanitizers; return their paths."""
    includes = f"-I{sysconfig.get_paths()['include']}"
    library, version = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("LDVERSION")
    source, harness = work / "_core_c.c", work / "harness"
    extension = work / f"_core_c{sysconfig.get_config_var('EXT_SUFFIX')}"
    pyx = ROOT / "prefork_logd" / "ingest" / "_core_c.pyx"
    common = ["clang", "-O1", "-g", "-fno-omit-frame-pointer", f"-fno-sanitize-recover={SANITIZERS}", "-w", includes]
    _run([sys.executable, "-m", "cython", "-3", str(pyx), "-o", str(source)])
    # Cython's own wrappers add nothing to null where a function is called without arguments; that alone is let pass.
    flags = ["-fPIC", "-shared", f"-fsanitize=fuzzer-no-link,{SANITIZERS}", "-fno-sanitize=pointer-overflow"]
    failing = ["-include", str(ROOT / "fuzz" / "allocations.h")]
    _run([*common, *flags, *failing, str(source), "-o", str(extension)])
    libraries = [f"-L{library}", f"-Wl,-rpath,{library}", f"-lpython{version}"]
    program = str(ROOT / "fuzz" / "harness.c")
    _run([*common, f"-fsanitize=fuzzer,{SANITIZERS}", program, "-o", str(harness), *libraries])
    return harness, extension


def _run(command: list[str]) -> None:
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise SystemExit(f"fuzz: {command[0]} failed with status {done.returncode}")


def seed(directory: Path) -> None:
    """Write the corpus where the fuzzer takes its first inputs from."""
    directory.mkdir(parents=True, exist_ok=True)
    for payload in corpus.load():
        (directory / hashlib.sha1(payload.data).hexdigest()).write_bytes(payload.data)


def fuzz(harness: Path, extension: Path, seeds: Path, options: list[str], jobs: int, *, looks_for_leaks: bool) -> int:
    """Run the fuzzer; what it finds stays in the current directory (crash-*, leak-*, timeout-*, oom-*)."""
    environment = os.environ | {
        "FUZZ_TARGET": "fuzz.target",
        "FUZZ_EXTENSION": str(extension),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        # Every object by malloc, where the sanitizer sees it. Looking for leaks takes a while after each input.
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": f"detect_leaks={int(looks_for_leaks)}:allocator_may_return_null=1",
    }
    fixed = ["-max_len=65536", "-len_control=0", "-rss_limit_mb=3072", "-print_final_stats=1"]
    processes = [subprocess.Popen([str(harness), *options, *fixed, str(seeds)], env=environment) for _ in range(jobs)]
    return max(process.wait() for process in processes)


if __name__ == "__main__":
    sys.exit(main())
