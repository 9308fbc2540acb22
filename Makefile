# A thin porch before CMake: the names that people and scripts can rely on. Everything it does can be
# done by hand as well, see CMakePresets.json. Needs git and make only; `make deps` installs the rest.
BUILD ?= build
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
CMAKE_FLAGS ?=
CTEST_FLAGS ?=
ifdef CI
CMAKE_FLAGS += -DWARNINGS_AS_ERRORS=ON
endif
QUICK = -L '^(unit|quick)$$'

# ctest in build tree $(1) with the arguments $(2); then says why what was skipped was skipped
define run_ctest
ctest --test-dir $(1) --output-on-failure --no-tests=error -j $(JOBS) $(CTEST_FLAGS) $(2); \
status=$$?; tests/skipped $(1); exit $$status
endef

.PHONY: help deps build check test demo asan tsan tidy format install clean
.NOTPARALLEL:

help:
	@echo 'make deps     install the Debian packages that are needed (asks for root)'
	@echo 'make build    build/vm-run'
	@echo 'make check    the quick tests: no guest, under two minutes'
	@echo 'make test     deps, build and all tests, guests too: under half an hour'
	@echo 'make demo     from a cloud image to a logged-in shell, and nothing left'
	@echo 'make asan     the quick tests under address, leak and undefined-behaviour sanitizers'
	@echo 'make tsan     the unit tests under the thread sanitizer'
	@echo 'make tidy     clang-tidy over the whole tree (.clang-tidy says for what)'
	@echo 'make format   clang-format over the whole tree'
	@echo 'make install  as cmake --install; DESTDIR is honoured'
	@echo 'make clean    remove the build trees'

deps:
	packaging/install-deps

build:
	cmake -S . -B $(BUILD) -G Ninja $(CMAKE_FLAGS)
	cmake --build $(BUILD) -j $(JOBS)

check: build
	@$(call run_ctest,$(BUILD),$(QUICK))

test: deps build
	@$(call run_ctest,$(BUILD))

demo: deps build
	tests/demo.sh

asan:
	cmake --preset $@
	cmake --build build-$@ -j $(JOBS)
	@$(call run_ctest,build-$@,$(QUICK))

# threads are in the programs of the unit tests; a whole libvirt connection would show what it and
# GLib, which are not built with the sanitizer, do among themselves
tsan:
	cmake --preset $@
	cmake --build build-$@ -j $(JOBS)
	@$(call run_ctest,build-$@,-L '^unit$$')

tidy: build
	git ls-files '*.c' | xargs -P $(JOBS) -n 4 clang-tidy -p $(BUILD) --quiet --warnings-as-errors='*'

format:
	git ls-files '*.c' '*.h' | xargs clang-format -i

install: build
	cmake --install $(BUILD)

clean:
	rm -rf build build-*/
