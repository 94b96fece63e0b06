#!/usr/bin/env python3
"""Write cases.safetensors and table.md: ONNX's test cases of operators, translated to operations of fullconv.

    python tests/conformance/make.py

The onnx package contains small models with inputs and outputs for every operator. Models of a single operator that
fullconv has are translated to its operations. An operator that differs from PyTorch's, for example by unequal
paddings, becomes several operations. Tensors of another rank are reshaped to [n, c, h, w] if that changes nothing.
Every translation is run with PyTorch before it is written; a wrong result is an error. table.md gives the reason for
each case that is not translated.

Requirements: onnx==1.22.0, torch, numpy, safetensors.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.numpy import save_file

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tools"))

from onnx_ops import OPERATORS, NotApplicable  # noqa: E402
from exporter.torch_ops import OPS  # noqa: E402

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "node"


def read(path):
    """The operator, its attributes, inputs and outputs; None for several operators or an unknown one."""
    model = onnx.load(path / "model.onnx")
    [node, *more] = model.graph.node
    if more or node.op_type not in OPERATORS:
        return None
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}

    def tensors(kind, names, declared):
        files = {value.name: path / "test_data_set_0" / f"{kind}_{i}.pb" for i, value in enumerate(declared)}
        return [numpy_helper.to_array(onnx.load_tensor(files[name])) if name else None for name in names]
    inputs = tensors("input", node.input, model.graph.input)
    return node.op_type, attributes, inputs, tensors("output", node.output, model.graph.output)


def compute(case):
    """PyTorch's result for a case, in f64."""
    values = {name: torch.from_numpy(value.astype(np.float64)) for name, value in case.tensors.items()}
    for node in case.nodes:
        result = OPS[node["op"]](*(values[i] for i in node["inputs"]), **node.get("attributes", {}))
        values[node["name"]] = result
    return result.numpy()


def decimals(output, computed):
    """The last decimal, if ONNX's rounded input and output do not quite match; else 0."""
    for digits in range(1, 6):
        if np.array_equal(np.round(output, digits), output):
            unit = 10.0 ** -digits
            return unit if unit * 0.01 < np.abs(computed - output).max() <= unit else 0.0
    return 0.0


def main():
    cases, tensors, rows = [], {}, []
    for path in sorted(FOLDER.glob("test_*")):
        found = read(path)
        if found is None:
            continue
        operator, attributes, inputs, outputs = found
        try:
            for case in OPERATORS[operator](attributes, inputs, outputs):
                case.name = path.name.removeprefix("test_") + (f".{case.name}" if case.name else "")
                computed = compute(case)
                assert computed.shape == case.output.shape, (case.name, computed.shape, case.output.shape)
                rounded = decimals(case.output, computed)
                within = case.within + rounded
                if not np.allclose(computed, case.output, rtol=1e-5, atol=1e-6 + within):
                    if not case.reason:
                        raise AssertionError(f"{case.name}: the translation computes another result")
                    raise NotApplicable(case.reason)
                nodes = [{k: v for k, v in node.items() if v != {}} for node in case.nodes]
                entry = {"name": case.name, "operator": operator, "inputs": list(case.tensors), "nodes": nodes}
                if within:
                    entry["within"] = within
                if rounded:
                    case.note = "; ".join(filter(None, [case.note, f"ONNX's numbers are rounded to {rounded:.0e}"]))
                cases.append(entry)
                for name, value in [*case.tensors.items(), ("output", case.output)]:
                    tensors[f"{case.name}/{name}"] = np.ascontiguousarray(value, np.float32)
                rows.append((operator, case.name, ", ".join(n["op"] for n in case.nodes), case.note))
        except NotApplicable as reason:
            rows.append((operator, path.name.removeprefix("test_"), "", str(reason)))
    save_file(tensors, HERE / "cases.safetensors", {"cases": json.dumps(cases)})
    write_table(rows)
    print(f"{len(cases)} cases, {sum(not row[2] for row in rows)} not applicable")


def write_table(rows):
    lines = ["# ONNX's cases", "",
             f"The operator tests of onnx {onnx.__version__} for fullconv's operators. `make.py` writes this page and",
             "`cases.safetensors`; `tests/kernels/conformance.rs` runs all cases on the CPU reference and on the device. A",
             "case's variant in several simpler operators (`_expanded`) does not count.", "",
             "| operator | cases | computed | not applicable |", "| --- | --- | --- | --- |"]
    order = list(OPERATORS)
    for operator in order:
        of = [row for row in rows if row[0] == operator]
        done = sum(bool(row[2]) for row in of)
        lines.append(f"| {operator} | {len(of)} | {done} | {len(of) - done} |")
    done = sum(bool(row[2]) for row in rows)
    lines += [f"| **all** | **{len(rows)}** | **{done}** | **{len(rows) - done}** |", "",
              "| case | operations | remark, or reason |", "| --- | --- | --- |"]
    for _, name, operations, remark in sorted(rows, key=lambda row: (order.index(row[0]), row[1])):
        lines.append(f"| `{name}` | {operations or '–'} | {remark} |")
    (HERE / "table.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
