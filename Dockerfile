# residuum with torch for the CPU; for a card: --build-arg TORCH=https://download.pytorch.org/whl/cu130
FROM python:3.13-slim
ARG TORCH=https://download.pytorch.org/whl/cpu
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY src src
RUN pip install --no-cache-dir torch==2.13.0 --index-url "$TORCH" \
    && pip install --no-cache-dir -c constraints.txt . \
    && rm -rf /source/*
# What is computed belongs to whoever runs it, not to root.
RUN useradd --create-home residuum && mkdir /work && chown residuum /work
USER residuum
ENV RESIDUUM_CACHE=/work/.residuum-cache
WORKDIR /work
ENTRYPOINT ["residuum"]
