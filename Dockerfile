# The service in one image. RUNTIME=cpu (default) or gpu chooses the ONNX Runtime inside; neither has torch or a compiler.
# EXTRAS=signing adds what MIXER_BUNDLE_KEY needs.
# What MIXER_BUNDLE names as timm:NAME and the like is kept in /var/cache/mixer, which a volume should hold.
# Any user may run it: those whom a platform makes up are in group 0, which may write there.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG RUNTIME=cpu
ARG EXTRAS=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
RUN python3 -m venv /opt/mixer
# Dependencies first: they change less often than the code, and their layer is reused.
COPY pyproject.toml constraints.txt ./
RUN /opt/mixer/bin/python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
        extras = ('server', '${RUNTIME}', 'grpc', 'otel', 'convert', 'pull', *'${EXTRAS}'.split()); \
        needed = [name for extra in extras for name in project['optional-dependencies'][extra]]; \
        print(*(name for name in needed if not name.startswith('mixer-serve')), sep='\n')" > requirements.txt \
    && /opt/mixer/bin/pip install --no-compile --constraint constraints.txt --requirement requirements.txt
COPY README.md LICENSE setup.py ./
COPY app app
COPY model model
COPY export export
COPY cli cli
COPY mixer_client mixer_client
RUN /opt/mixer/bin/pip install --no-compile --no-deps . \
    && /opt/mixer/bin/pip uninstall --yes pip setuptools hf-xet \
    && cd /opt/mixer/lib/python3*/site-packages && rm -r onnx/backend onnx/reference \
    && find onnx \( -name '*.cc' -o -name '*.h' \) -delete \
    && find /opt/mixer -depth \( -name tests -o -name __pycache__ \) -type d -exec rm -rf {} + \
    && /opt/mixer/bin/python -m compileall -q /opt/mixer/lib

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="mixer-serve" \
      org.opencontainers.image.description="Image classification with an MLP-Mixer on ONNX Runtime" \
      org.opencontainers.image.licenses="Apache-2.0" \
      com.amazonaws.sagemaker.capabilities.accept-bind-to-port="true"
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin mixer \
    && install --directory --owner=10001 --group=0 --mode=775 /var/cache/mixer
COPY --from=build /opt/mixer /opt/mixer
COPY bundles /srv/bundles
COPY deploy/entrypoint /usr/local/bin/entrypoint
WORKDIR /srv
ENV PATH=/opt/mixer/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    MIXER_HOST=0.0.0.0 \
    MIXER_BUNDLE=/srv/bundles/clothes \
    MIXER_CACHE=/var/cache/mixer \
    HF_HOME=/var/cache/mixer/huggingface \
    MIXER_LOG_FORMAT=json
USER 10001:10001
EXPOSE 8000 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=600s --retries=3 CMD ["mixer", "health"]
ENTRYPOINT ["entrypoint"]
