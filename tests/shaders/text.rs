//! The files in `shaders/` themselves.

use super::*;

#[test]
fn every_file_is_complete_and_valid() {
    for (name, source) in files() {
        let (module, _) = validated(&name, &source);
        let [entry] = module.entry_points.as_slice() else {
            panic!("{name} has {} entry points", module.entry_points.len());
        };
        assert_eq!(
            (entry.name.as_str(), entry.stage),
            ("main", ShaderStage::Compute),
            "{name}"
        );
    }
}

#[test]
fn every_header_describes_the_work_and_the_output() {
    for (name, source) in files() {
        let header = source.lines().take_while(|line| line.starts_with("//"));
        let header = header.collect::<Vec<_>>().join("\n");
        for word in ["One invocation", "A workgroup"] {
            if header.contains(word) {
                break;
            }
            assert_ne!(word, "A workgroup", "{name}: who computes what?\n{header}");
        }
        assert!(
            header.contains("output"),
            "{name}: how does the output lie?\n{header}"
        );
    }
}

#[test]
fn every_file_belongs_to_a_kernel_or_to_textures() {
    let files: BTreeSet<_> = files().into_keys().collect();
    let of_textures = texture_pipelines().map(|pipeline| pipeline.shader.name.to_owned());
    let mut used = BTreeSet::from(of_textures);
    used.extend(kernels().iter().map(|k| k.shader.name.to_owned()));
    assert_eq!(files, used);
}
