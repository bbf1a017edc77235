"""Builds prefork-logd-handler: the files of prefork_logd/handlers/ as the package prefork_logd_handler.

In a checkout the files, the licence and the version are taken from there each time; an sdist has them. Readable by the
setuptools of Python 2.7 as well as today's.
"""

import io
import os
import re
import shutil

from setuptools import setup

HERE = os.path.dirname(os.path.abspath(__file__))
CHECKOUT = os.path.dirname(os.path.dirname(HERE))
PACKAGE = "prefork_logd_handler"
NO_CHECKOUT = """prefork-logd-handler: the rest of the checkout is not here: a pip older than 21.3 copies one directory.
With a newer Python, in the checkout: python3 -m pip wheel --no-deps -w dist ./packaging/handler
Then: pip install dist/prefork_logd_handler-*.whl"""


def read(*names):
    with io.open(os.path.join(*names), encoding="utf-8") as source:
        return source.read()


def take_files():
    """Copy what the checkout has, unless this is an sdist."""
    if os.path.exists(os.path.join(HERE, "PKG-INFO")):
        return
    source, target = os.path.join(CHECKOUT, "prefork_logd", "handlers"), os.path.join(HERE, PACKAGE)
    if not os.path.isdir(source):
        raise SystemExit(NO_CHECKOUT)
    for old in (target, os.path.join(HERE, "build")):  # a module that is gone would be in the wheel
        shutil.rmtree(old, ignore_errors=True)
    os.mkdir(target)
    for name in os.listdir(source):
        if name.endswith((".py", ".pyi")):
            shutil.copy(os.path.join(source, name), target)
    shutil.copy(os.path.join(CHECKOUT, "prefork_logd", "py.typed"), target)
    shutil.copy(os.path.join(CHECKOUT, "LICENSE"), HERE)
    version = re.search(r'__version__ = "([^"]+)"', read(CHECKOUT, "prefork_logd", "__init__.py")).group(1)
    with io.open(os.path.join(HERE, "VERSION"), "w", encoding="utf-8") as file:
        file.write("%s\n" % version)


take_files()
setup(
    name="prefork-logd-handler",
    version=read(HERE, "VERSION").strip(),
    description="A logging handler that loses nothing and doubles nothing: the client of prefork-logd",
    long_description=read(HERE, "README.md"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=[PACKAGE],
    package_data={PACKAGE: ["py.typed", "*.pyi"]},
    python_requires=">=2.7, !=3.0.*, !=3.1.*, !=3.2.*, !=3.3.*, !=3.4.*, !=3.5.*",
    options={"bdist_wheel": {"python_tag": "py2.py3"}},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Programming Language :: Python :: 2.7",
        "Programming Language :: Python :: 3",
        "Topic :: System :: Logging",
    ],
    zip_safe=False,  # type checkers read py.typed as a file
)
