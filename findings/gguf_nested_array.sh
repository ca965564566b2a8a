#!/usr/bin/env bash
# Good guess:   a GGUF array of arrays (the format has them, the writer takes them) comes back from GGUFReader as it
#               was written.
# What happens: contents() runs the inner arrays together: [[1, 2], [3]] is read as [1, 2, 3], so per-layer lists lose
#               their layers without a word, though the file has them right.
# Seen with:    gguf 0.19.0, numpy 2.4.6, Python 3.11, 2026-11.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile gguf==0.19.0 numpy==2.4.6
WORK="$work" "$work/venv/bin/python" - <<'PY'
import os
import struct
from importlib.metadata import version
from pathlib import Path

import gguf

path = Path(os.environ["WORK"]) / "nested.gguf"
writer = gguf.GGUFWriter(path, "llama")
writer.add_array("kept.groups", [[1, 2], [3]])
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
field = gguf.GGUFReader(path).fields["kept.groups"]
print("gguf", version("gguf"))
print("written: [[1, 2], [3]]; types read:", [kind.name for kind in field.types], "contents:", field.contents())
# An outer array of 2 arrays: of 2 int32 and of 1 int32.
stored = struct.pack("<IIQIQiiIQi", 9, 9, 2, 5, 2, 1, 2, 5, 1, 3)
print("the file holds the nested form:", stored in path.read_bytes())
assert stored in path.read_bytes()
assert field.contents() == [1, 2, 3]
print("as described: the reader flattens arrays of arrays")
PY
