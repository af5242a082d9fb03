#!/bin/sh
# Takes out of a virtual environment what a running harness never reads: debugging symbols, tests of other packages than Beam, sources
# of compiled modules. Whatever a pipeline can import stays, Beam's own tests and examples included.
set -eu
cd "$1"/lib/python3*/site-packages

# A third of the compiled code is symbols. Libraries that wheel builders have patched (*.libs) are left alone: their segments
# may not be moved.
find . -name '*.libs' -prune -o -type f \( -name '*.so' -o -name '*.so.*' \) -exec strip --strip-unneeded {} +

find . -path ./apache_beam -prune -o -type d -name tests -prune -exec rm -rf {} +
find . -type f \( -name '*.pyx' -o -name '*.pyi' -o -name '*.c' -o -name '*.cc' -o -name '*.cpp' -o -name '*.a' \) -exec rm {} +
