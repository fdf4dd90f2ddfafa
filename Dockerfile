# The command and the page, on a CPU:  docker build -t atbsn .    How to run it: docs/programs.md
ARG PYTHON=3.13
FROM python:${PYTHON}-slim
COPY . /source
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu "/source[photos,web]" \
    && rm -r /source
# Not root; any other user (--user) has a home there, too.
ENV HOME=/tmp
USER 1000:1000
WORKDIR /pictures
EXPOSE 7860
ENTRYPOINT ["atbsn"]
CMD ["serve", "--host", "0.0.0.0"]
