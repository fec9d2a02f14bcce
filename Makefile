# The commands of this repository. "make" alone lists them.
# Prerequisites: Rust, Node 20 or newer, Python 3. Everything else is installed by "make install".

example := examples/appwright-demo
# What the tests check workflows, snippets and reports with. The demo needs none of it.
tools := crates/qgjob/tests/tools

.PHONY: help install install-demo fetch apps build demo test bench-warm bench-phones bench-queue bench-scale bench-placement fuzz lint clean

help:
	@echo "make demo      install what is missing, build, and run the main job (ARGS=--keep leaves it running)"
	@echo "make test      install what is missing and run every test"
	@echo "make bench-warm  time a warm job beside plain AppWright (ARGS=--rounds=3 for a quick look)"
	@echo "make bench-phones  time 40 jobs of 4 versions on 2 phones beside a plain loop of AppWright"
	@echo "make bench-queue  time the queue beside BullMQ and Graphile Worker (ARGS=--rounds=1 for a quick look)"
	@echo "make bench-scale  time store and server with 100,000 jobs queued and 1,000,000 finished; memory and start"
	@echo "make bench-placement  check the targets of placement by simulation (ARGS=--seed=7 for other seeds)"
	@echo "make fuzz      feed the parser of reports with what breaks parsers; needs nightly Rust and cargo-fuzz (ARGS=-max_total_time=600)"
	@echo "make install   install what is missing: system packages, npm packages of the example, tools of the tests, crates"
	@echo "make build     build the release binary, target/release/qgjob"
	@echo "make apps      build both versions of the demo app into $(example)/build"
	@echo "make lint      rustfmt and clippy, warnings are errors"
	@echo "make clean     remove what was built, npm packages and tools"

install:
	scripts/install-system.sh
	$(MAKE) --no-print-directory $(example)/node_modules/.package-lock.json \
	  $(tools)/node_modules/.package-lock.json $(tools)/.venv/installed fetch

# What the demo alone needs: no chromium, PostgreSQL or Redis.
install-demo:
	scripts/install-system.sh demo
	$(MAKE) --no-print-directory $(example)/node_modules/.package-lock.json fetch

# npm writes this file at the end of an installation.
$(example)/node_modules/.package-lock.json: $(example)/package.json $(example)/package-lock.json
	cd $(example) && npm ci --prefer-offline
	touch $@

$(tools)/node_modules/.package-lock.json: $(tools)/package.json $(tools)/package-lock.json
	cd $(tools) && npm ci --prefer-offline
	touch $@

$(tools)/.venv/installed: $(tools)/requirements.txt
	python3 -m venv --clear $(tools)/.venv
	$(tools)/.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	touch $@

fetch:
	cargo fetch --locked

apps:
	$(example)/app/build.sh 1.4.2 10402
	$(example)/app/build.sh 1.5.0 10500

build:
	cargo build --release --locked

demo: install-demo
	$(MAKE) --no-print-directory build apps
	$(example)/demo.sh $(ARGS)

# nextest runs no documentation tests, so cargo does.
test: install
	$(MAKE) --no-print-directory apps
	if cargo nextest --version > /dev/null 2>&1; then \
	  cargo nextest run --workspace --locked && cargo test --workspace --locked --doc; \
	else \
	  cargo test --workspace --locked; \
	fi

# What docs/MEASURED.md quotes. The machine should be idle.
bench-warm: install-demo
	$(MAKE) --no-print-directory build apps
	benches/warm-overhead/run.py $(ARGS)

# What docs/PERFORMANCE.md quotes. The machine should be idle.
bench-phones: install-demo
	$(MAKE) --no-print-directory build
	benches/phones/run.py $(ARGS)

bench-queue: benches/queue/node_modules/.package-lock.json
	scripts/install-system.sh
	cargo build --release --locked -p qgjob -p qgjob-server --bins --examples
	benches/queue/run.py $(ARGS)

bench-scale:
	cargo build --release --locked -p qgjob -p qgjob-server --bins --examples
	benches/scale/run.py $(ARGS)

benches/queue/node_modules/.package-lock.json: benches/queue/package.json benches/queue/package-lock.json
	cd benches/queue && npm ci --prefer-offline
	touch $@

# What docs/SIMULATION.md quotes, then what a decision costs. Only nanoseconds depend on the machine.
bench-placement: build
	target/release/qgjob simulate --benchmark $(ARGS)
	cargo bench --locked -p qgjob-core --bench placement

# What docs/MEASURED.md quotes. Without a sanitizer: no part of the parser is unsafe code, and SQLite would be built with it for long.
fuzz:
	mkdir -p fuzz/corpus/report
	cp crates/qgjob/tests/fixtures/playwright-report*.json fuzz/corpus/report
	cargo +nightly fuzz run --dev -s none report -- -max_len=65536 -print_final_stats=1 $(or $(ARGS),-max_total_time=300)

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

clean:
	cargo clean
	rm -rf benches/queue/node_modules $(tools)/node_modules $(tools)/.venv $(example)/node_modules $(example)/build $(example)/test-results $(example)/playwright-report .demo
