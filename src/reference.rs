//! The graph on the CPU, through each op's reference implementation: every device is checked against it.

use crate::error::{Result, bail};
use crate::graph::{Graph, NodeId, NodeKind};
use crate::parameters::Parameters;
use crate::tensor::Tensor;
use std::collections::HashMap;

/// Runs `graph`, unoptimised, on `input` and passes every op's inputs and value to `visit`, in order. `visit` may
/// change the value, and later ops read the changed one. A value is freed after its last reader.
///
/// # Errors
/// `Shape` if the graph does not fit the input; `ModelFile` if a weight cannot be used; any error of `visit`.
pub fn run_with(
    graph: &Graph,
    parameters: &Parameters,
    input: &Tensor,
    mut visit: impl FnMut(NodeId, &[&Tensor], &mut Tensor) -> Result<()>,
) -> Result<()> {
    graph.shapes(input.shape())?;
    let mut last_reader: HashMap<NodeId, NodeId> = HashMap::new();
    for (id, node) in graph.iter() {
        node.inputs.iter().for_each(|input| {
            last_reader.insert(*input, id);
        });
    }
    let mut values: HashMap<NodeId, Tensor> = HashMap::new();
    values.insert(graph.input(), input.clone());
    for (id, node) in graph.iter() {
        let Some(op) = node.op() else { continue };
        for input in &node.inputs {
            let parameter = graph.node(*input);
            if let NodeKind::Parameter(shape) = parameter.kind {
                let value = parameters.get(&parameter.name, shape)?.tensor()?;
                values.insert(*input, value);
            }
        }
        let inputs: Vec<&Tensor> = node.inputs.iter().map(|input| &values[input]).collect();
        let mut value = op.reference(&inputs).map_err(|e| e.at(&node.name))?;
        visit(id, &inputs, &mut value)?;
        values.insert(id, value);
        values.retain(|value, _| last_reader.get(value).is_some_and(|reader| *reader > id));
    }
    Ok(())
}

/// Runs `graph`, unoptimised, on `input` and returns the values of `outputs`, in their order.
///
/// # Errors
/// As [`run_with`], and `Request` if an output is not an op.
pub fn run(
    graph: &Graph,
    parameters: &Parameters,
    input: &Tensor,
    outputs: &[NodeId],
) -> Result<Vec<(NodeId, Tensor)>> {
    let mut kept: HashMap<NodeId, Tensor> = HashMap::new();
    run_with(graph, parameters, input, |id, _, value| {
        if outputs.contains(&id) {
            kept.insert(id, value.clone());
        }
        Ok(())
    })?;
    let value = |id: &NodeId| match kept.get(id) {
        Some(value) => Ok((*id, value.clone())),
        None => bail!(Request, "{} is not an op", graph.node(*id).name),
    };
    outputs.iter().map(value).collect()
}
