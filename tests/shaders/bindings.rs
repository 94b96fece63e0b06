//! The bindings of a shader are those of its kernel.

use super::*;

#[test]
fn buffers_are_bound_in_the_order_inputs_output_params() {
    for kernel in variants() {
        let name = kernel.shader.name;
        let (module, _) = validated(name, &kernel.shader.source);
        let buffers = buffers(name, &module);
        let [inputs @ .., output, params] = &buffers[..] else {
            panic!("{name} binds {} buffers", buffers.len());
        };
        assert_eq!(inputs.len(), kernel.bindings.len(), "{name}");
        let told = usize::from(check_saturated(&kernel, &module));
        assert!(inputs.len() + told < MOST_STORAGE_BUFFERS, "{name}");
        for (binding, global) in kernel.bindings.iter().zip(inputs) {
            if binding.is_texels() {
                check_texels(binding, &module, global);
                continue;
            }
            let access = StorageAccess::LOAD;
            assert_eq!(global.space, AddressSpace::Storage { access }, "{name}");
            check_input(
                &kernel,
                binding,
                name_of(global),
                element_bytes(&module, global),
            );
        }
        let access = StorageAccess::LOAD | StorageAccess::STORE;
        assert_eq!(output.space, AddressSpace::Storage { access }, "{name}");
        assert_eq!(name_of(output), "output", "{name}");
        assert_eq!(
            element_bytes(&module, output),
            kernel.output.element_bytes(),
            "{name}"
        );
        assert_eq!(
            (params.space, name_of(params)),
            (AddressSpace::Uniform, "params"),
            "{name}"
        );
    }
}

/// Whether the shader reports values beyond f16. Panics unless exactly the shaders that write f16 do.
fn check_saturated(kernel: &Kernel, module: &Module) -> bool {
    let name = kernel.shader.name;
    let mut others = module.global_variables.iter().filter_map(|(_, global)| {
        let binding = global.binding.filter(|b| b.group != 0)?;
        Some((name_of(global), binding.group, binding.binding))
    });
    let told = others.next();
    assert_eq!(others.next(), None, "{name}");
    let writes = kernel.output == Format::Nhwc4Half;
    assert_eq!(
        told,
        writes.then_some(("saturated", SATURATED_GROUP, 0)),
        "{name}"
    );
    // Every store goes through the function `written`, which checks the value.
    let source = &kernel.shader.source;
    assert!(!writes || !source.contains("Written("), "{name}");
    assert!(!writes || source.matches(" written(").count() > 1, "{name}");
    writes
}

#[test]
fn every_kernel_that_reads_no_texture_has_a_variant_in_f16() {
    for kernel in kernels() {
        let expected = !kernel.bindings.iter().any(Binding::is_texels);
        assert_eq!(kernel.can_be_half(), expected, "{}", kernel.shader.name);
        for half in halves(&kernel) {
            assert!(is_half(&half.shader.source) && half.shader.source != kernel.shader.source);
        }
    }
    let bits = narrow::MAX.to_bits();
    let tells = variants()
        .iter()
        .any(|k| k.shader.source.contains(&format!("{bits:#010x}u")));
    assert!(tells, "{bits:#x} is the largest f16 in the shaders too");
}

/// Checks an input that is read as texels: its name, its type, and the texture's width in the shader.
fn check_texels(binding: &Binding, module: &Module, global: &GlobalVariable) {
    let name = match binding.activation() {
        Some(_) => "input",
        None => "weight",
    };
    assert_eq!(name_of(global), name);
    let TypeInner::Image { class, .. } = module.types[global.ty].inner else {
        panic!("{name} is no texture");
    };
    let expected = naga::ImageClass::Storage {
        format: naga::StorageFormat::Rgba32Float,
        access: StorageAccess::LOAD,
    };
    assert_eq!(class, expected);
    assert_eq!(constant(module, "ROW"), Some(TEXELS_PER_ROW as usize));
}

/// Whether the kernel multiplies by a weight.
fn has_weight(kernel: &Kernel) -> bool {
    let packed = kernel.bindings.iter().filter_map(Binding::parameter);
    packed.into_iter().any(|(_, packing)| !packing.is_whole())
}

/// Checks an input buffer: its name, and that its elements have the size that the planner assumes.
fn check_input(kernel: &Kernel, binding: &Binding, name: &str, bytes: u64) {
    let shader = kernel.shader.name;
    match binding {
        Binding::Parameter { packing, .. } if *packing != Packing::Vector => {
            assert_eq!((name, bytes), ("weight", 16), "{shader}");
        }
        // Beside a weight, a vector is a bias; ops without one have other vectors too.
        Binding::Parameter { .. } | Binding::Zeros { .. } if !has_weight(kernel) => {
            let vectors = ["weight", "bias", "mean", "variance"];
            assert!(vectors.contains(&name) && bytes == 16, "{shader}: {name}");
        }
        Binding::ParameterHalf { .. } => {
            assert_eq!((name, bytes), ("weight", 8), "{shader}");
        }
        Binding::Parameter { .. } | Binding::Zeros { .. } => {
            assert_eq!((name, bytes), ("bias", 16), "{shader}");
        }
        // With groups, channels are read one by one; offsets still count groups of four.
        Binding::Activation { format, .. } if shader.ends_with("_grouped") => {
            assert_eq!(
                (name, bytes),
                ("input", format.element_bytes() / 4),
                "{shader}"
            );
        }
        Binding::ActivationTexels { .. } | Binding::ParameterTexels { .. } => unreachable!(),
        Binding::Activation { format, .. } => {
            let several = ["a", "b", "c", "d", "e", "query", "key", "value"];
            // Indices and statistics.
            let exact = ["indices", "shift", "mean", "variance", "top", "sum"];
            assert!(
                name == "input" || several.contains(&name) || exact.contains(&name),
                "{shader}: {name}"
            );
            assert_eq!(
                exact.contains(&name),
                *format == Format::Nhwc4Exact,
                "{shader}: {name}"
            );
            assert_eq!(bytes, format.element_bytes(), "{shader}");
        }
    }
}
