//! Runs of graphs and plans on a device.

use fullconv::low_level::gpu::{Executor, Network};
use fullconv::low_level::graph::{Graph, NodeId};
use fullconv::low_level::plan::Plan;
use fullconv::{Gpu, Parameters, Tensor};

/// Runs a graph on a device.
pub fn run(
    gpu: &Gpu,
    graph: &Graph,
    parameters: &Parameters,
    input: &Tensor,
    outputs: &[NodeId],
) -> Vec<(NodeId, Tensor)> {
    let plan = Plan::new(graph, input.shape(), outputs, gpu.target()).unwrap();
    run_plan(gpu, plan, graph, parameters, input)
}

/// Runs a plan on a device.
pub fn run_plan(
    gpu: &Gpu,
    plan: Plan,
    graph: &Graph,
    parameters: &Parameters,
    input: &Tensor,
) -> Vec<(NodeId, Tensor)> {
    run_on(&Network::new(gpu), plan, graph, parameters, input)
}

/// Runs a plan with the kernels and weights of `network`.
pub fn run_on(
    network: &Network,
    plan: Plan,
    graph: &Graph,
    parameters: &Parameters,
    input: &Tensor,
) -> Vec<(NodeId, Tensor)> {
    pollster::block_on(async {
        let mut executor = Executor::new(network, plan, graph, parameters).await?;
        executor.run(input).await
    })
    .unwrap()
}
