# dv_dtls for C: builds, tests and installs the library like any other C library. `make help` lists the targets.
# Everything is made in build/; only cargo has its own folder beside it.

CARGO      ?= cargo
CC         ?= cc
CFLAGS     ?= -O2 -g
PKG_CONFIG ?= pkg-config
OBJCOPY    ?= $(if $(TARGET),$(TARGET)-)objcopy
INSTALL    ?= install

PREFIX     ?= /usr/local
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
PCDIR      ?= $(LIBDIR)/pkgconfig
CMAKEDIR   := $(LIBDIR)/cmake/dv_dtls
MANDIR     ?= $(PREFIX)/share/man
DESTDIR    ?=

# A Rust target triple, for cross compilation (together with CC, OBJCOPY and PKG_CONFIG); empty: this machine.
TARGET     ?=

VERSION    := $(shell sed -n 's/^version = "\(.*\)"/\1/p;T;q' Cargo.toml)
# Raised by hand, and only when a program that was linked before would no longer run.
SOVERSION  := 0
SONAME     := libdv_dtls.so.$(SOVERSION)
SHARED     := libdv_dtls.so.$(SOVERSION).$(shell echo '$(VERSION)' | cut -d. -f2-)

CARGO_TARGET_DIR ?= target
RUST_FLAGS := --locked --release --lib $(if $(TARGET),--target $(TARGET))
RUST_LIB   := $(CARGO_TARGET_DIR)/$(if $(TARGET),$(TARGET)/)release/libdv_dtls.a
SOURCES    := $(shell find src -name '*.rs') build.rs Cargo.toml Cargo.lock cbindgen.toml
HEADER     := include/dv_dtls.h

EXAMPLES   := $(patsubst c-examples/%.c,build/%,$(wildcard c-examples/*.c))
WARNINGS   := -Wall -Wextra -Wpedantic -Werror
SSL_CFLAGS  = $(shell $(PKG_CONFIG) --cflags libssl libcrypto)
SSL_LIBS    = $(shell $(PKG_CONFIG) --libs libssl libcrypto)

export DV_LIBDIR DV_INCLUDEDIR
DV_LIBDIR     := $(abspath build)
DV_INCLUDEDIR := $(abspath include)

.PHONY: all lib examples install uninstall help demo test test-rust test-c test-asan test-tsan test-valgrind test-long \
        test-openssl test-interop coverage man \
        certs header check check-header check-symbols check-abi abi bench bench-quick soak fuzz dist deb clean
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

## all: the shared and the static library, what is installed beside them, and the C examples, in build/ (the default)
all: lib examples build/dv_dtls.pc build/cmake man

## lib: the shared and the static library only
lib: build/$(SHARED) build/$(SONAME) build/libdv_dtls.so build/libdv_dtls.a

## examples: the C examples only
examples: $(EXAMPLES)

## man: the manual pages, from the header's comments
man: build/man

## demo: start the example server, run the example client against it over IPv4 and IPv6, say what happened
demo: all certs
	@scripts/demo.sh

## test: every test, Rust and C, against the shared and the static library
test: all certs
	@scripts/ensure-packages.sh test
	@scripts/test.sh

## test-rust: the Rust tests only
test-rust: lib certs
	$(CARGO) test --locked --workspace --features dv-dtls/test-hooks

## test-c: the programs of tests/c only (all, or those in CASES=), each against the shared and the static library
test-c: lib certs
	@scripts/test-c.sh shared static

## test-asan: the programs of tests/c with AddressSanitizer in the C and the Rust code, and UBSan in the C code
test-asan: certs
	@scripts/ensure-packages.sh build
	@scripts/test-c.sh asan

## test-tsan: programs of tests/c whose threads meet, with ThreadSanitizer in the C and the Rust code
test-tsan: certs
	@scripts/ensure-packages.sh build
	@CASES="two_threads threads meetings made_twice moving callbacks lifetimes server door_callbacks export" DV_TEST_SECONDS=60 \
	    scripts/test-c.sh tsan

## test-valgrind: the programs of tests/c under valgrind's memcheck
test-valgrind: lib certs
	@scripts/ensure-packages.sh valgrind
	@scripts/test-c.sh valgrind

## test-long: the tests that take minutes (those that Rust calls ignored)
test-long: all certs
	@scripts/ensure-packages.sh test
	$(CARGO) test --locked --release --workspace -- --ignored
	@CASES=two_threads DV_TEST_SECONDS=60 scripts/test-c.sh shared static

## test-openssl: Rust tests, tests/c and the demo with OPENSSL_SERIES (system 3.6 4.0); builds those, which takes minutes
OPENSSL_SERIES ?= system 3.6 4.0
test-openssl: certs
	@scripts/ensure-packages.sh openssl
	@scripts/test-openssl.sh $(OPENSSL_SERIES)

## test-interop: implementations that others wrote, from registries, against our servers and clients (tests/interop)
test-interop: all certs
	@scripts/ensure-packages.sh interop
	$(CARGO) test --locked --test interop

## coverage: which lines of src/ `make test` runs; builds everything anew, and wants llvm-tools of rustup
coverage: certs
	@scripts/coverage.sh

## certs: the test certificates, in certs/out, when they are missing
certs:
	@scripts/ensure-packages.sh certs
	@certs/make-certs.sh

## header: rewrite include/dv_dtls.h from src/ffi
header:
	DV_HEADER=update $(CARGO) build --locked

## check: format, clippy, header, exported symbols, ABI, documentation, scripts; changes nothing
check: check-header check-symbols check-abi
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items
	@if ! command -v shellcheck >/dev/null; then echo 'shellcheck is not installed: left out'; \
	    else shellcheck .ci/run certs/*.sh fuzz/*.sh scripts/*.sh; fi

## check-header: the header is what src/ffi says, and documents everything
check-header:
	@scripts/ensure-packages.sh build
	DV_HEADER=check $(CARGO) build --locked
	scripts/check-header-docs.sh $(HEADER)

## check-symbols: the shared library exports what the header declares, versioned, and nothing else
check-symbols: lib
	scripts/check-symbols.sh build/$(SHARED) build/libdv_dtls.a $(HEADER)

## check-abi: no program that was compiled with the last committed header would break
check-abi:
	@scripts/ensure-packages.sh abi
	@scripts/abi.sh check $(HEADER)

## abi: take the header's ABI as the one that is promised from now on (docs/abi.md)
abi:
	@scripts/ensure-packages.sh abi
	@scripts/abi.sh update $(HEADER)

## bench: all servers beside each other, and parts of the engine; BENCH="--record docs/performance.md" writes the tables there
bench: all certs
	@scripts/ensure-packages.sh bench
	$(CARGO) bench --locked
	$(CARGO) run --locked --release --package dv-load -- bench $(BENCH)

## bench-quick: what matters most of it, in two minutes
bench-quick: all certs
	@scripts/ensure-packages.sh bench
	$(CARGO) run --locked --release --package dv-load -- bench --quick $(BENCH)

## soak: SOAK_MINUTES (30) of clients that come, go, vanish and move, with losses and floods; memory is to end as it began
SOAK_MINUTES ?= 30
soak: all certs
	$(CARGO) build --locked --release --example echo_server
	$(CARGO) run --locked --release --package dv-load -- soak --minutes $(SOAK_MINUTES)

## fuzz: each fuzz target for FUZZ_SECONDS (60)
FUZZ_SECONDS ?= 60
fuzz:
	@scripts/ensure-packages.sh fuzz
	@for target in $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs))); do \
	    fuzz/run.sh $$target $(FUZZ_SECONDS) || exit 1; done

## install: header, libraries, dv_dtls.pc, CMake files, manual under DESTDIR and PREFIX (also LIBDIR, INCLUDEDIR, MANDIR)
install: lib build/dv_dtls.pc build/cmake build/man
	$(INSTALL) -d '$(DESTDIR)$(INCLUDEDIR)' '$(DESTDIR)$(LIBDIR)' '$(DESTDIR)$(PCDIR)'
	$(INSTALL) -m 644 $(HEADER) '$(DESTDIR)$(INCLUDEDIR)/dv_dtls.h'
	$(INSTALL) -m 644 build/libdv_dtls.a '$(DESTDIR)$(LIBDIR)/libdv_dtls.a'
	$(INSTALL) -m 755 build/$(SHARED) '$(DESTDIR)$(LIBDIR)/$(SHARED)'
	ln -sf $(SHARED) '$(DESTDIR)$(LIBDIR)/$(SONAME)'
	ln -sf $(SONAME) '$(DESTDIR)$(LIBDIR)/libdv_dtls.so'
	$(INSTALL) -m 644 build/dv_dtls.pc '$(DESTDIR)$(PCDIR)/dv_dtls.pc'
	$(INSTALL) -d '$(DESTDIR)$(CMAKEDIR)' '$(DESTDIR)$(MANDIR)/man3'
	$(INSTALL) -m 644 build/cmake/* '$(DESTDIR)$(CMAKEDIR)'
	$(INSTALL) -m 644 build/man/man3/* '$(DESTDIR)$(MANDIR)/man3'
	@if [ -z '$(DESTDIR)' ] && [ "$$(id -u)" = 0 ] && command -v ldconfig >/dev/null; then ldconfig; fi

## uninstall: remove what install put there
uninstall: build/man
	rm -f '$(DESTDIR)$(INCLUDEDIR)/dv_dtls.h' '$(DESTDIR)$(PCDIR)/dv_dtls.pc' '$(DESTDIR)$(LIBDIR)/libdv_dtls.a' \
	    '$(DESTDIR)$(LIBDIR)/libdv_dtls.so' '$(DESTDIR)$(LIBDIR)/$(SONAME)' '$(DESTDIR)$(LIBDIR)/$(SHARED)'
	for page in build/man/man3/*; do rm -f '$(DESTDIR)$(MANDIR)'/man3/"$${page##*/}"; done
	rm -rf '$(DESTDIR)$(CMAKEDIR)'

## dist: the tarball of the committed tree, and one of the crates it builds with, in build/
dist: | build
	@scripts/dist.sh $(VERSION) build

## deb: the Debian packages, built offline from the tarballs, and checked by lintian, in build/deb
deb: dist
	@scripts/ensure-packages.sh deb
	@scripts/deb.sh $(VERSION) build

## clean: remove build/ and what cargo made
clean:
	rm -rf build
	$(CARGO) clean

## help: this list
help:
	@echo 'make [target] [CARGO= CC= CFLAGS= LDFLAGS= PKG_CONFIG= OBJCOPY= INSTALL= TARGET= PREFIX= LIBDIR= INCLUDEDIR= PCDIR= MANDIR= DESTDIR=]'; echo
	@sed -n 's/^## \([a-z-]*\): /\1\t/p' $(MAKEFILE_LIST) | awk -F'\t' '{ printf "  %-14s %s\n", $$1, $$2 }'

build:
	mkdir -p build

# rustc makes the archive and says which system libraries std needs beside it. When nothing is left to build, cargo repeats
# what was said: so the first call shows how it goes, and the second one is read.
ARCHIVE := $(CARGO) rustc $(RUST_FLAGS) --crate-type staticlib -- --print native-static-libs
build/native-libs: $(SOURCES) | build
	@scripts/ensure-packages.sh build
	$(ARCHIVE)
	@CARGO_TERM_COLOR=never $(ARCHIVE) 2>&1 | sed -n 's/-lssl\|-lcrypto//g; s/^note: native-static-libs: *//p' >$@
	@test -s $@ || { echo 'rustc did not name the native libraries' >&2; exit 1; }

# The symbols are weak so that a program may define a helper of its own beside the archive's.
build/libdv_dtls.a: build/native-libs
	$(OBJCOPY) --strip-debug --wildcard --weaken-symbol='dv_*' $(RUST_LIB) $@

# Linked by hand and not by rustc, because rustc's own version script leaves no room for symbol versions. Each declared
# function is asked for with -u; what none of them needs is dropped.
build/$(SHARED): build/native-libs libdv_dtls.map $(HEADER)
	$(CC) -shared -o $@ $$(scripts/header-functions.sh $(HEADER) | sed 's/^/-Wl,-u,/') $(RUST_LIB) \
	    -Wl,-soname,$(SONAME) -Wl,--version-script=libdv_dtls.map -Wl,-Bsymbolic -Wl,--gc-sections -Wl,--strip-debug \
	    -Wl,-z,defs -Wl,-z,relro -Wl,-z,now -Wl,-z,nodelete $(LDFLAGS) $(SSL_LIBS) $$(cat build/native-libs)

build/$(SONAME): build/$(SHARED)
	ln -sf $(SHARED) $@

build/libdv_dtls.so: build/$(SONAME)
	ln -sf $(SONAME) $@

# The paths are those of the `make` that runs, so that `make install PREFIX=/usr` after a plain `make` is right.
.PHONY: paths
paths:
build/paths: paths | build
	@echo '$(PREFIX) $(LIBDIR) $(INCLUDEDIR)' | cmp -s - $@ || echo '$(PREFIX) $(LIBDIR) $(INCLUDEDIR)' >$@

build/cmake: cmake/dv_dtls-config.cmake.in cmake/dv_dtls-config-version.cmake.in build/paths build/native-libs
	mkdir -p $@
	sed -e 's|@SHARED@|$(SHARED)|; s|@SONAME@|$(SONAME)|' -e "s|@LIBS_PRIVATE@|$$(tr ' ' ';' <build/native-libs)|" \
	    -e "s|@INCLUDEDIR_FROM_LIBDIR@|$$(realpath -m --relative-to='$(LIBDIR)' '$(INCLUDEDIR)')|" \
	    $< >$@/dv_dtls-config.cmake
	sed -e 's|@VERSION@|$(VERSION)|; s|@COMPATIBLE@|$(shell echo '$(VERSION)' | cut -d. -f1,2)|' \
	    cmake/dv_dtls-config-version.cmake.in >$@/dv_dtls-config-version.cmake
	touch $@

build/man: $(HEADER) scripts/make-man.pl | build
	rm -rf $@ && mkdir -p $@/man3
	scripts/make-man.pl $(HEADER) $@/man3
	touch $@

build/dv_dtls.pc: dv_dtls.pc.in build/paths build/native-libs
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' -e "s|@LIBS_PRIVATE@|$$(cat build/native-libs)|" \
	    -e 's|@LIBDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(LIBDIR))|' \
	    -e 's|@INCLUDEDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(INCLUDEDIR))|' $< >$@

# The examples find the library beside them, wherever build/ is.
build/%: c-examples/%.c $(wildcard c-examples/*.h) $(HEADER) build/libdv_dtls.so
	$(CC) $(CFLAGS) -std=gnu11 $(WARNINGS) -Iinclude $(SSL_CFLAGS) -o $@ $< $(LDFLAGS) \
	    -Lbuild -Wl,-rpath,'$$ORIGIN' -ldv_dtls $(SSL_LIBS)
