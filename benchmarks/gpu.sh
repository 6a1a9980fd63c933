#!/usr/bin/env bash
# All that needs a GPU, in one call: correctness against the CPU and the release, then speed and memory.
#
#   benchmarks/gpu.sh pack                  on a machine with network: wheels into .gpu/, which git ignores, and the reference
#                                           values of the release from $SHARED, by default ../shared, if they are there;
#                                           TARGET=3.12 is the Python of the GPU machine
#   benchmarks/gpu.sh                       on the GPU machine, with .gpu/ in the checkout; it needs no network
#   benchmarks/gpu.sh --minutes 5 --out runs/gpu --only rates training
#   benchmarks/gpu.sh --small               the same on a CPU, with small models
#
# Lines of JSON (figures.jsonl) and the table made of them (table.md) are written into --out as the figures come, so that
# a call that is cut short loses nothing but the rest. The GPU machine needs torch, torchvision, transformers, accelerate, timm,
# pytest, pytest-xdist and hypothesis; peft for LoRA.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}

if [ "${1:-}" = pack ]; then
  mkdir -p .gpu
  for platform in manylinux_2_28 manylinux_2_17 manylinux2014; do platforms+=(--platform "${platform}_$(uname -m)"); done
  $PYTHON -m pip download --quiet --disable-pip-version-check --only-binary=:all: --python-version "${TARGET:-3.12}" --implementation cp \
    "${platforms[@]}" --dest .gpu/new pydantic pydicom
  rm -rf .gpu/wheels && mv .gpu/new .gpu/wheels
  if [ -d "${SHARED:-../shared}/goldens" ]; then
    mkdir -p .gpu/shared && cp -r "${SHARED:-../shared}/goldens" .gpu/shared/
  else
    echo "no reference values in ${SHARED:-../shared}/goldens: the tests that need them will be skipped"
  fi
  du -sh .gpu/*
  exit
fi

if ! $PYTHON -c "import pydantic, pydicom" 2>/dev/null; then
  if [ ! -d .gpu/wheels ]; then
    echo "error: $PYTHON has no pydantic or no pydicom: install them, or run benchmarks/gpu.sh pack where there is a network" >&2
    exit 2
  fi
  site=.gpu/site && rm -rf $site
  $PYTHON -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$site" .gpu/wheels/*.whl
  export PYTHONPATH="$PWD/$site${PYTHONPATH:+:$PYTHONPATH}"
fi
[ -d .gpu/shared ] && export MAVL_SHARED="${MAVL_SHARED:-$PWD/.gpu/shared}"
export HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
exec $PYTHON -m benchmarks.gpu "$@"
