#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs, builds and runs every test.  Ends with 0 only when all passed.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

usage() {
    cat <<'USAGE'
usage: scripts/test.sh [--quick] [CTEST-OPTION...]

Installs the packages of build and tests, builds four ways (as released but for
fail points, with address and undefined-behaviour sanitizers, with the thread
sanitizer, and with libFuzzer), runs the unit tests in each, short fuzzing runs, style checks, and
the integration, interoperability and fault tests with the real programs.

  --quick   only the first of these builds, and no fault tests
USAGE
}

quick=no
case "${1-}" in
-h | --help)
    usage
    exit 0
    ;;
--quick)
    quick=yes
    shift
    ;;
esac

cd "$PROJECT"
begin=$SECONDS
jobs=$(nproc)

took() {
    say "    ($((SECONDS - begin)) s since the start)"
}

step "installing packages"
scripts/install-deps.sh --test
ensure_service_user
took

step "building"
build build -DCC_WERROR=ON -DCC_TESTS=ON -DCC_FAILPOINTS=ON
took

if [ "$quick" = yes ]; then
    step "running the tests but for the fault tests"
    exec ctest --test-dir build --output-on-failure --parallel "$jobs" --label-exclude faults "$@"
fi

# Unit tests mostly wait for one another's threads: twice as many as processors.
step "building with the address and undefined-behaviour sanitizers, and running the unit tests"
build build-asan -DCC_WERROR=ON -DCC_TESTS=ON -DCMAKE_BUILD_TYPE=Debug -DCC_SANITIZE=address,undefined
ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1 \
    ctest --test-dir build-asan --output-on-failure --parallel "$((2 * jobs))" --label-regex 'unit'
took

step "building with the thread sanitizer, and running the unit tests"
build build-tsan -DCC_WERROR=ON -DCC_TESTS=ON -DCMAKE_BUILD_TYPE=Debug -DCC_SANITIZE=thread
ctest --test-dir build-tsan --output-on-failure --parallel "$((2 * jobs))" --label-regex 'unit' --exclude-regex on_postgres
took

step "building with clang and libFuzzer, and fuzzing each parser for a short while"
build build-fuzz -DCC_WERROR=ON -DCC_TESTS=ON -DCC_FUZZ=ON -DCMAKE_BUILD_TYPE=Debug -DCC_SANITIZE=address,undefined \
    -DCMAKE_C_COMPILER=clang-14
ctest --test-dir build-fuzz --output-on-failure --parallel "$jobs" --label-regex 'fuzz'
took

step "running all tests on the first build"
ctest --test-dir build --output-on-failure --parallel "$jobs" "$@"
say "all tests passed in $((SECONDS - begin)) seconds"
