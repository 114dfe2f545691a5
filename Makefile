PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint docs gallery bench gpu-report examples detect wheel matrix clean

demo: $(VENV)/demo.stamp
	$(BIN)/kornia-patchaug preview --animate

# What ARGS say, as pytest takes them; without them everything, and make lint before it.
test: $(if $(ARGS),$(VENV)/test.stamp,lint)
	$(BIN)/pytest $(or $(ARGS),-n 2)

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A warning fails it. It is in out/site; make docs ARGS=serve shows it while it is written.
docs: $(VENV)/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs $(or $(ARGS),build) --strict

# Remakes what the docs show: pictures, figures, and the text between marks; make gallery ARGS=pages for that alone.
gallery: $(VENV)/gallery.stamp
	$(BIN)/python -m gallery $(ARGS)

# Alone on the machine, for figures that mean something; make bench ARGS=--quick for a first look.
bench: $(VENV)/bench.stamp
	$(BIN)/python -m benchmarks $(ARGS)

# How the kernels for a GPU are compiled, and how many bytes they move: takes no GPU.
gpu-report: $(VENV)/suite.stamp
	$(BIN)/python -m benchmarks.gpu_report $(ARGS)

# Each ends in one line of JSON and fails if its bar is missed; pictures go to out/.
examples: $(VENV)/examples.stamp
	$(BIN)/python examples/align_objects.py
	$(BIN)/python examples/learn_ranges.py
	$(BIN)/python examples/rectify_digits.py

# Trains detectors of blood cells, for an hour or two: make detect DATA=PATH; without, it says where the data are.
detect: $(VENV)/examples.stamp
	$(BIN)/python examples/detect_cells.py --workers 2 $(if $(DATA),--data $(DATA)) $(ARGS)

# A plain wheel, without extras, in an empty environment of its own: it must import and preview without the checkout.
wheel: $(VENV)/demo.stamp
	rm -rf out/wheel
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir out/wheel .
	$(PYTHON) -m venv out/wheel/venv
	out/wheel/venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt out/wheel/*.whl
	cd out/wheel && venv/bin/python -I -c "import kornia_patchaug; print(kornia_patchaug.__version__)"
	cd out/wheel && venv/bin/kornia-patchaug preview --draws 1 --out pictures

# The suite on the lower bounds of pyproject.toml and on the newest of everything; several GB each, one after another.
matrix:
	$(PYTHON) .ci/matrix.py $(ARGS)

clean:
	rm -rf $(VENV) out

$(VENV)/demo.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cpu]'
	touch $@

$(VENV)/%.stamp: $(VENV)/demo.stamp
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cpu,$*]'
	touch $@
