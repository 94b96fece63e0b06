//! Params and overrides are those that the kernel lists.

use super::*;

/// The members of the shader's `Params`: names and kinds, all of 32 bits and none with a gap before it.
fn params(name: &str, module: &Module) -> Vec<(String, ScalarKind)> {
    let buffers = buffers(name, module);
    let TypeInner::Struct { members, .. } = &module.types[buffers[buffers.len() - 1].ty].inner
    else {
        panic!("{name}: params is no struct");
    };
    let member = |(i, member): (u32, &naga::StructMember)| {
        assert_eq!(member.offset, 4 * i, "{name}");
        match module.types[member.ty].inner {
            TypeInner::Scalar(scalar) if scalar.width == 4 => {
                (member.name.clone().unwrap(), scalar.kind)
            }
            ref other => panic!("{name}: {:?} is {other:?}", member.name),
        }
    };
    (0..).zip(members).map(member).collect()
}

#[test]
fn params_are_the_words_that_rust_writes() {
    for kernel in kernels() {
        let shader = kernel.shader.name;
        let (module, _) = validated(shader, &kernel.shader.source);
        let members = params(shader, &module);
        assert_eq!(members.len(), kernel.params.len(), "{shader}: {members:?}");
        let buffers = buffers(shader, &module);
        for ((given, word), (name, kind)) in kernel.params.iter().zip(&members) {
            assert_eq!(given, name, "{shader}: {word:?}");
            let float = matches!(word, Word::Float(_));
            assert_eq!(
                float,
                *kind == ScalarKind::Float,
                "{shader}: {name} is {word:?}"
            );
            // What the planner fills in has a name that says what it is.
            let expected = match word {
                Word::Value(_) | Word::Float(_) => continue,
                Word::InputStart(binding) => format!("{}_start", name_of(buffers[*binding])),
                word => kernel::words([*word])[0].0.into(),
            };
            assert_eq!(*name, expected, "{shader}: {word:?}");
        }
    }
}

/// A word that the planner fills in is there if the kernel can be cut that way, so that no cut goes
/// unnoticed by the shader.
#[test]
fn params_have_every_word_that_a_cut_changes() {
    for kernel in kernels() {
        let shader = kernel.shader.name;
        let has = |word: Word| kernel.params.iter().any(|(_, held)| *held == word);
        assert!(
            has(Word::RowBegin) && has(Word::RowEnd) && has(Word::OutputStart),
            "{shader}"
        );
        for (i, binding) in kernel.bindings.iter().enumerate() {
            let is_activation = binding.activation().is_some();
            assert_eq!(
                has(Word::InputStart(i)),
                is_activation,
                "{shader}: binding {i}"
            );
        }
        // Labels need all of the weight at once, and their kernel refuses one that does not fit.
        let packings = kernel.bindings.iter().filter_map(Binding::parameter);
        let sharded =
            kernel.output != Format::Labels8 && packings.into_iter().any(|(_, p)| !p.is_whole());
        assert_eq!(
            has(Word::ChannelBegin) && has(Word::ChannelEnd),
            sharded,
            "{shader}"
        );
        let summed = kernel.terms.is_some();
        assert_eq!(
            has(Word::TermBegin) && has(Word::TermEnd),
            summed,
            "{shader}"
        );
    }
}

#[test]
fn constants_are_the_overrides_of_the_shader() {
    for kernel in variants() {
        let name = kernel.shader.name;
        let (module, _) = validated(name, &kernel.shader.source);
        let overrides = module.overrides.iter();
        let overrides: BTreeSet<_> = overrides.map(|(_, o)| o.name.clone().unwrap()).collect();
        let constants: BTreeSet<_> = kernel
            .constants
            .iter()
            .map(|(k, _)| k.to_string())
            .collect();
        assert_eq!(overrides, constants, "{name}");
        assert_eq!(
            constants.len(),
            kernel.constants.len(),
            "{name} names one twice"
        );
    }
}
