#!/bin/bash
# Every bad input of tests/bad-inputs/ gives its one line and touches nothing.
exec python3 "${SOURCE_DIR:?}/tests/bad-inputs/run"
