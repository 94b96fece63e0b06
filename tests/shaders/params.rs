//! The members of `Params` and the overrides are those that the kernel lists.

use super::*;

/// The names and kinds of the members of the shader's `Params`. Panics unless all have 32 bits, without gaps.
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
fn params_match_the_words_of_the_kernel() {
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
            // A word that the planner sets has the name of its meaning.
            let expected = match word {
                Word::Value(_) | Word::Float(_) => continue,
                Word::InputStart(binding) => format!("{}_start", name_of(buffers[*binding])),
                word => kernel::words([*word])[0].0.into(),
            };
            assert_eq!(*name, expected, "{shader}: {word:?}");
        }
    }
}

/// A kernel that can be cut along an axis has the words that describe the cut, so that its shader takes every cut into
/// account.
#[test]
fn params_have_the_words_of_every_possible_cut() {
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
        // Kernels of labels need the whole weight; they do not fit if the weight must be cut.
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
