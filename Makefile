# make book and make test are all that a newcomer needs. Both make .venv first, when it
# is missing or older than the files that say what belongs in it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: install book serve pdf audit test notebooks lint format clean help assignments grade

help:
	@echo "make book       build the book, strictly, and print the page to open"
	@echo "make test       run all tests, and every cell of every notebook"
	@echo "make serve      build the book and serve it on http://localhost:8000"
	@echo "make notebooks  execute the notebooks that have changed (ALL=1: all of them)"
	@echo "make pdf        print the book into _build/book.pdf"
	@echo "make audit      measure the pages: Lighthouse, axe, weight"
	@echo "make lint       check style; make format mends what a program can mend"
	@echo "make assignments [SEED=31]       build the assignments, in that variant"
	@echo "make grade SUBMISSIONS=folder      grade a class (ASSIGNMENT=, SEED=, WORKERS=)"

# The stamp holds a checksum rather than a date: a fresh clone gives every file the
# same date, and a touched file is not a changed one.
WANTED := $(shell cat requirements.txt pyproject.toml web/package-lock.json Makefile | cksum)
ifneq ($(shell cat $(READY) 2>/dev/null),$(WANTED))
.PHONY: $(READY)
endif

$(READY):
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "Python 3.11, 3.12 or 3.13 is needed, this is %d.%d. Try: make PYTHON=python3.12" % v)'
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	mkdir -p $(VENV)/web && cp web/package.json web/package-lock.json $(VENV)/web
	cd $(VENV)/web && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --prefer-offline --ignore-scripts --no-audit --no-fund --loglevel=error
	@echo '$(WANTED)' > $(READY)

install: $(READY)

book: $(READY)
	$(BIN)/jupyter-book build -W --keep-going --quiet .
	@echo
	@echo "The book is built. Open $(CURDIR)/_build/html/index.html"

serve: book
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html 8000

# Chromium prints it: on Debian, apt-get install chromium.
pdf: book
	$(BIN)/python web/make_pdf.py

# Lighthouse, axe and the weight of the pages, as a table: some twenty minutes.
audit: book
	$(BIN)/python web/audit.py

# Two at once, with one thread each: two that share two cores wait for each other. The
# cells of a notebook, and the tests of a file, stay together.
test: book
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --nbval --nbval-current-env --nbval-sanitize-with=tests/nbval_sanitize.cfg --nbval-cell-timeout=180 $(ARGS)

notebooks: $(READY)
	$(BIN)/python book/execute.py $(if $(ALL),--all)
	$(BIN)/python book/draw_pictures.py

assignments: $(READY)
	$(BIN)/python assignments/build.py $(if $(SEED),--seed "$(SEED)") $(ASSIGNMENT)

# Without ASSIGNMENT and SEED, the notebooks say themselves what they are.
grade: $(READY)
	@$(if $(SUBMISSIONS),,echo "Say where the notebooks are: make grade SUBMISSIONS=folder"; exit 2)
	$(BIN)/python assignments/grade.py "$(SUBMISSIONS)" $(if $(ASSIGNMENT),--assignment "$(ASSIGNMENT)") $(if $(SEED),--seed "$(SEED)") $(if $(WORKERS),--workers "$(WORKERS)")

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf _build
