# Every target is one call of the installed `pairfuse` command.
# `make` alone lists them. Variables that are not given are not passed on.

DATA ?= data/demo
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTHON ?= python3.11
PAIRFUSE := $(BIN)/pairfuse

place = --data "$(DATA)" $(if $(CACHE),--cache "$(CACHE)") $(if $(RUN),--run "$(RUN)") \
  $(if $(CONFIG),--config "$(CONFIG)") $(if $(ENCODING),--encoding "$(ENCODING)") $(ARGS)
encode = $(if $(ENCODERS),--encoders "$(ENCODERS)") $(if $(DEVICE),--device "$(DEVICE)") \
  $(if $(POOLING),--pooling "$(POOLING)") $(if $(MAX_LENGTH),--max-length "$(MAX_LENGTH)") \
  $(if $(PRECISION),--precision "$(PRECISION)") $(if $(BATCH_SIZE),--batch-size "$(BATCH_SIZE)") \
  $(if $(THREADS),--threads "$(THREADS)")
study = $(if $(TRIALS),--trials "$(TRIALS)") $(if $(FOLDS),--folds "$(FOLDS)") \
  $(if $(REPEATS),--repeats "$(REPEATS)") $(if $(SEED),--seed "$(SEED)") $(if $(NESTED),--nested) $(if $(HEADS),--heads "$(HEADS)") \
  $(if $(METRIC),--metric "$(METRIC)")

.DEFAULT_GOAL := help
.PHONY: help run setup demo check-data features tune train ablate predict report matrix compare study test coverage attack faults lint format docs picture bench clean

help: ## list targets and variables
	@echo "pairfuse: classify pairs of one text and one image"
	@echo
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' \
	  | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'
	@echo
	@echo "variables, as in: make features DATA=data/mine ENCODERS=\"bert resnet50 clip\""
	@echo "  DATA        folder of the data set, or a table file  (data/demo)"
	@echo "  ENCODERS    names, text=FOLDER, image=FOLDER, joint=FOLDER  (auto: minilm ngram efficientnet-lite0, with lexicon for English)"
	@echo "  CACHE       where derived files are kept  (cache)"
	@echo "  RUN         name of the run folder  (the data set's name)"
	@echo "  TRIALS      trials for each arm, those of earlier runs included  (20)"
	@echo "  DEVICE      auto, cpu, cuda, mps, or several: cuda:0,cuda:1  (auto)"
	@echo "  FOLDS REPEATS SEED HEADS METRIC NESTED CASCADE POOLING MAX_LENGTH PRECISION BATCH_SIZE THREADS ENCODING CONFIG OUT  (see pairfuse --help)"
	@echo "  ARGS        any other flags of the command"

run: $(STAMP) ## install, draw the demo data if needed, then the whole pipeline
	@$(PAIRFUSE) run $(place) $(encode) $(study)

setup: $(STAMP) ## make .venv and install; costs nothing when it is done

demo: $(STAMP) ## draw the demo data set into data/demo
	@$(PAIRFUSE) demo

check-data: $(STAMP) ## say what the data set holds and what is wrong with it
	@$(PAIRFUSE) check-data $(place)

features: $(STAMP) ## extract what the feature store lacks
	@$(PAIRFUSE) features $(place) $(encode)

tune: $(STAMP) ## search for the best recipe; resumes
	@$(PAIRFUSE) tune $(place) $(encode) $(study)

train: $(STAMP) ## fit the best recipe on all folds, keep the ensemble
	@$(PAIRFUSE) train $(place) $(encode) $(study)

ablate: $(STAMP) ## does the image help? all arms, paired tests, the verdict (NESTED=1: nested tuning)
	@$(PAIRFUSE) ablate $(place) $(encode) $(study)

predict: $(STAMP) ## write labels for the test pairs (CASCADE=1: images of unsure texts only)
	@$(PAIRFUSE) predict $(place) $(if $(DEVICE),--device "$(DEVICE)") $(if $(OUT),--out "$(OUT)") \
  $(if $(CASCADE),--cascade)

report: $(STAMP) ## the evidence as one HTML page in the run folder
	@$(PAIRFUSE) report $(place) $(encode) $(study)

matrix: $(STAMP) ## every TEXT x IMAGE x HEADS (and JOINT) side by side: scores, tests, costs
	@$(PAIRFUSE) matrix $(place) $(encode) $(study) $(if $(TEXT),--text "$(TEXT)") \
  $(if $(IMAGE),--image "$(IMAGE)") $(if $(JOINT),--joint "$(JOINT)") \
  $(if $(COST_ONLY),--cost-only "$(COST_ONLY)")

compare: $(STAMP) ## test two runs or two files of predictions in pairs: A=... B=...
	@$(PAIRFUSE) compare "$(A)" "$(B)" $(if $(TRUTH),--truth "$(TRUTH)") $(if $(CACHE),--cache "$(CACHE)")

study: $(STAMP) ## hundreds of worlds of known truth: is the verdict right? (minutes)
	@$(BIN)/python tests/bench/study_truth.py $(ARGS)

test: $(STAMP) ## run the whole test suite
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

coverage: $(STAMP) ## run the suite and say which lines and branches no test reaches
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=term-missing:skip-covered

attack: $(STAMP) ## let calls fail, send signals, let commands meet; prints the counts (ARGS=--quick)
	@$(BIN)/python tests/attack/attack.py $(ARGS)

faults: $(STAMP) ## kill, fill disks and race in full (minutes); prints the counts
	@$(BIN)/python -m pytest -m "faults or not faults" tests/faults

lint: $(STAMP) ## check style and types
	@$(BIN)/ruff check pipeline tests
	@$(BIN)/ruff format --check pipeline tests
	@$(BIN)/mypy

format: $(STAMP) ## put the code into its usual form
	@$(BIN)/ruff check --fix pipeline tests
	@$(BIN)/ruff format pipeline tests

docs: $(STAMP) ## write the tables of README and guides anew from the code
	@$(BIN)/python tests/docs/tables.py

picture: $(STAMP) ## draw the README's picture from the demo run's report (needs chromium)
	@$(BIN)/python tests/docs/picture.py

bench: $(STAMP) ## measure against the usual ways (20 minutes; DATA=folder): cache/bench/*.json
	@$(BIN)/uv pip install -q --python $(BIN)/python -e '.[bench]'
	@$(BIN)/python tests/bench/bench_decoding.py $(ARGS)
	@$(BIN)/python tests/bench/bench_cache.py
	@$(BIN)/python tests/bench/bench_memory.py
	@$(BIN)/python tests/bench/bench_extraction.py $(if $(filter-out data/demo,$(DATA)),--data "$(DATA)")
	@$(BIN)/python tests/bench/bench_tuning.py $(if $(filter-out data/demo,$(DATA)),--data "$(DATA)")
	@$(BIN)/python tests/bench/bench_growth.py
	@$(BIN)/python tests/bench/bench_labels.py $(if $(filter-out data/demo,$(DATA)),--data "$(DATA)")

clean: ## remove .venv and what tools left; data/ and cache/ stay (see pairfuse cache rm)
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build pipeline/*.egg-info

$(STAMP): setup.cfg pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) 2>/dev/null || python3 -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pairfuse needs Python 3.11 or newer")'
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv
	@echo "installing into $(VENV) (a minute or two the first time)"
	@$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python -e '.[dev]'
	@touch $@
