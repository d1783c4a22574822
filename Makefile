# Needs Python 3.11 or newer, make, and the package index; everything else goes into $(VENV).
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin

.PHONY: demo test test-heavy lint quality sequences comparison benchmarks lock sample models \
  vectors clients clean

demo: $(VENV)/demo.installed          ## words -> train -> evaluate -> export -> transcribe
	$(RUN)/speechrnn demo

test: $(VENV)/dev.installed           ## lint and the test suite, minutes
	$(MAKE) --no-print-directory lint
	$(RUN)/python -m pytest -n 2 --dist loadfile

test-heavy: $(VENV)/dev.installed     ## the tests that take minutes each
	$(RUN)/python -m pytest -m heavy

lint: $(VENV)/dev.installed           ## ruff and mypy
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

quality: $(VENV)/dev.installed        ## the README's table of accuracies: hours; can be stopped and resumed
	$(RUN)/python benchmarks/quality/sweep.py benchmarks/quality/final.toml --jobs 2

benchmarks: $(VENV)/benchmarks.installed ## the other tables under benchmarks/, and their results files
	$(RUN)/python benchmarks/front_end.py --write
	$(RUN)/python benchmarks/decoding.py --write
	$(RUN)/python benchmarks/export.py --write
	$(RUN)/python benchmarks/augmentation.py --write
	$(RUN)/python benchmarks/training_speed.py --write

sequences: $(VENV)/dev.installed      ## the table of word error rates: hours; can be stopped and resumed
	$(RUN)/python benchmarks/sequences.py

comparison: $(VENV)/dev.installed     ## every encoder at 500,000 parameters: most of a day; can be stopped and resumed
	$(RUN)/python benchmarks/comparison.py

lock: $(VENV)/dev.installed           ## constraints.txt anew from pyproject.toml
	$(RUN)/pip install uv
	$(RUN)/uv pip compile pyproject.toml --extra benchmarks --universal --python-version 3.11 \
	  --no-emit-package speechrnn --no-header --output-file constraints.txt

sample: $(VENV)/dev.installed         ## data/sample anew: a few recordings and a small model
	$(RUN)/python data/make_sample.py

models: $(VENV)/dev.installed         ## export/models anew: the ready models and their cards, an hour
	$(RUN)/python export/make_models.py
	$(RUN)/python export/make_vectors.py --keep-models

vectors: $(VENV)/dev.installed        ## export/vectors anew: what every client is tested against, minutes
	$(RUN)/python export/make_vectors.py

clients: $(VENV)/dev.installed        ## build and test every client of a .tflite that can be built here
	$(RUN)/python export/check_clients.py

clean:
	rm -rf $(VENV) demo build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis

$(VENV)/demo.installed: pyproject.toml constraints.txt
	$(call install,train,demo)

$(VENV)/dev.installed: pyproject.toml constraints.txt
	$(call install,dev)

$(VENV)/benchmarks.installed: pyproject.toml constraints.txt
	$(call install,benchmarks)

# $(call install,EXTRAS): this project and the exact versions in constraints.txt
comma := ,
define install
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "make: $$($(PYTHON) --version) found, expected Python 3.11 or newer; set PYTHON="; exit 1; }
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --disable-pip-version-check --quiet --progress-bar off \
	  --constraint constraints.txt --editable '.[$(1)$(if $(2),$(comma)$(2))]'
	touch $@
endef
