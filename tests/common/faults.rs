//! Faults of devices, as changes of plans.

use fullconv::low_level::plan::Plan;

/// `source` with every stored number times `factor`; labels are words.
fn stores(source: &str, factor: &str) -> String {
    let mut text = String::new();
    let mut rest = source;
    while let Some(at) = rest.find("output[") {
        let end = |text: &str| {
            let mut depth = 0;
            let closes = |c: char| {
                depth += i32::from(c == '[') - i32::from(c == ']');
                c == ']' && depth == 0
            };
            text.find(closes).unwrap() + 1
        };
        let after = at + end(&rest[at..]);
        text.push_str(&rest[..after]);
        rest = &rest[after..];
        if let Some(value) = rest.strip_prefix(" =") {
            let (value, after) = value.split_once(';').unwrap();
            text.push_str(&format!(" = ({value}) {factor};"));
            rest = after;
        }
    }
    text + rest
}

/// Changes the kernels called `name`, or all of them, in `plan`: numbers times `factor`, and labels by `of_labels`.
pub fn alter(plan: &mut Plan, name: Option<&str>, factor: &str, of_labels: &str) {
    for pipeline in &mut plan.pipelines {
        let of_kernel = pipeline.shader.name;
        if name.is_none_or(|name| name == of_kernel) {
            let factor = match of_kernel.starts_with("argmax") {
                true => of_labels,
                false => factor,
            };
            pipeline.shader.source = stores(&pipeline.shader.source, factor).into();
        }
    }
}

/// A device that writes zeros.
pub fn give_zeros(plan: &mut Plan) {
    alter(plan, None, "* 0.0", "* 0u");
}

/// A device that runs no kernel.
pub fn write_nothing(plan: &mut Plan) {
    for step in &mut plan.steps {
        step.workgroups = [0; 2];
    }
}
