//! The output of a workgroup, and its use of workgroup memory.

use super::*;

/// The side of the squares of pixels that the kernel pools into one value; 1 without pooling.
fn pool_side(kernel: &Kernel, module: &Module) -> usize {
    let given = kernel.params.iter().find(|(name, _)| *name == "pool");
    if let Some((_, Word::Value(side))) = given {
        return *side as usize;
    }
    let overridden = kernel.constants.iter().find(|(name, _)| *name == "POOL");
    match overridden {
        Some((_, side)) => *side as usize,
        None => constant(module, "POOL").unwrap_or(1),
    }
}

/// The number of elements, of four channels of a pixel, that an invocation writes: 1 unless the shader's constant
/// `ELEMENTS` is the number that it computes.
fn per_invocation(kernel: &Kernel, module: &Module) -> usize {
    let side = pool_side(kernel, module);
    constant(module, "ELEMENTS").unwrap_or(1) / (side * side)
}

/// The invocations of a workgroup, or the items that several invocations share each, if the shader has a constant `FOURS`.
/// `ELEMENTS` is then the number of elements of an item.
fn shares(module: &Module) -> usize {
    let [x, ..] = module.entry_points[0].workgroup_size;
    constant(module, "FOURS").unwrap_or(x as usize)
}

/// Whether each invocation computes all channels of an item of the grid, such as a pixel.
fn takes_all_channels(kernel: &Kernel, invocations: usize) -> bool {
    match kernel.grid {
        Grid::Tiles { pixels: items, .. } | Grid::Items { items, .. } => items == invocations,
        _ => false,
    }
}

#[test]
fn a_workgroup_writes_as_many_elements_as_its_grid_says() {
    for kernel in kernels() {
        let name = kernel.shader.name;
        let (module, _) = validated(name, &kernel.shader.source);
        let [x, y, z] = module.entry_points[0].workgroup_size;
        assert_eq!((y, z), (1, 1), "{name}");
        assert!(
            x <= DeviceProfile::WEBGPU_DEFAULTS.max_invocations_per_workgroup,
            "{name}"
        );
        let computed = match kernel.grid {
            Grid::Elements(elements) => elements,
            Grid::Tiles { pixels, channels } => {
                assert_eq!(channels % 4, 0, "{name}");
                pixels * channels / 4
            }
            Grid::Planes {
                items, channels, ..
            } => {
                assert_eq!(channels % 4, 0, "{name}");
                items * channels / 4
            }
            Grid::Blocks {
                rows,
                columns,
                channels,
                ..
            } => {
                assert_eq!(channels % 4, 0, "{name}");
                rows * columns * channels / 4
            }
            Grid::Items { items, run, .. } if run.quads > 1 => items * run.elements,
            Grid::Items {
                items, channels, ..
            } => {
                assert_eq!(channels % 4, 0, "{name}");
                items * channels / 4
            }
        };
        if !takes_all_channels(&kernel, x as usize) {
            let written = shares(&module) * per_invocation(&kernel, &module);
            assert_eq!(computed, written, "{name}");
        }
    }
}

#[test]
fn a_tile_of_texels_is_as_wide_as_its_packed_weights() {
    let mut subgroups = BTreeSet::new();
    let is_tile = |k: &&Kernel| ["conv2d_texels", "winograd_product"].contains(&k.shader.name);
    for kernel in kernels().iter().filter(is_tile) {
        let (module, _) = validated(kernel.shader.name, &kernel.shader.source);
        let of = |name| constant(&module, name).unwrap();
        let channels = 4 * of("LANES") * of("BLOCKS");
        let side = pool_side(kernel, &module);
        let pixels = of("PIXELS") / (side * side);
        let tile = channels;
        let is_packing = |packing: Packing| match kernel.grid {
            Grid::Tiles {
                pixels: p,
                channels,
            } => {
                assert_eq!((p, channels), (pixels, tile));
                packing
                    == Packing::Conv {
                        tile,
                        pad_input: true,
                    }
            }
            Grid::Planes {
                planes,
                items,
                channels,
            } => {
                assert_eq!((items, channels), (pixels, tile));
                assert_eq!(planes, of("POINTS"));
                matches!(packing, Packing::Winograd { tile: t, transform } if t == tile && transform.points() == planes)
            }
            grid => panic!("{grid:?}"),
        };
        let mut packings = kernel.bindings.iter().filter_map(Binding::parameter);
        assert!(
            packings.any(|(_, p)| is_packing(p)),
            "{:?}",
            kernel.bindings
        );
        if uses_subgroups(&kernel.shader.source) {
            let [invocations, ..] = module.entry_points[0].workgroup_size;
            // Its invocations own channels of the same pixels, or pixels of the same channels.
            assert!([1, invocations as usize].contains(&of("LANES")));
            subgroups.insert(invocations);
        }
    }
    assert_eq!(subgroups.into_iter().collect::<Vec<_>>(), [4, 8, 16]);
}

/// All four blocks of `conv2d_tiled` occur, the large ones with 16 and with 8 sums an invocation, with windows staged
/// whole and row by row, within the workgroup memory of every device.
#[test]
fn every_block_of_conv2d_tiled_occurs_and_fits_workgroup_memory() {
    let (mut blocks, mut stages, mut sides) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let kernels = kernels();
    for kernel in kernels.iter().filter(|k| k.shader.name == "conv2d_tiled") {
        let (module, _) = validated(kernel.shader.name, &kernel.shader.source);
        let value = |name| constant(&module, name).unwrap();
        let halo = value("STAGE_GROUPS") * value("HALO_ROWS") * value("HALO_PITCH");
        let bytes = 16 * (halo + value("TAPS_SIZE"));
        assert!(bytes <= DeviceProfile::WEBGPU_DEFAULTS.max_workgroup_bytes as usize);
        let channels = 4 * value("QUADS");
        let (rows, columns) = (value("ROWS"), value("COLUMNS"));
        let parts = kernel.constants.iter().find(|(name, _)| *name == "PARTS");
        let side = value("POOL");
        assert_eq!(
            kernel.grid,
            Grid::Blocks {
                rows: rows / side,
                columns: columns / side,
                channels,
                parts: parts.unwrap().1 as usize
            }
        );
        let packed = kernel.bindings.iter().any(|binding| {
            matches!(binding, Binding::Parameter { packing: Packing::Conv { tile, .. }, .. } if *tile == channels)
        });
        assert!(packed, "{:?}", kernel.bindings);
        let sums = value("PIXELS") * value("OWN_QUADS");
        blocks.insert((rows, columns, channels, sums));
        stages.insert((value("STAGE_ROWS"), value("STAGE_GROUPS")));
        sides.insert((side, rows, columns));
    }
    assert_eq!(blocks.len(), 6, "{blocks:?}");
    // With and without pooling, for each size.
    assert_eq!(sides.len(), 6, "{sides:?}");
    assert!(stages.len() >= 5, "{stages:?}");
}

/// All blocks of `conv2d_coop` occur, for each kind of cooperative matrices, within 32 KiB of workgroup memory.
#[test]
fn every_block_of_conv2d_coop_occurs_and_fits_workgroup_memory() {
    let (mut blocks, mut stages, mut sides) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for kernel in kernels().iter().filter(|k| k.shader.name == "conv2d_coop") {
        let (module, _) = validated(kernel.shader.name, &kernel.shader.source);
        let value = |name| constant(&module, name).unwrap();
        let (size, cells) = (value("SIZE"), value("CELLS"));
        let halo = value("HALO_ROWS") * value("HALO_COLUMNS") * value("HALO_PITCH");
        let taps = value("TAPS_ROWS") * value("TAPS_PITCH");
        let side = value("POOL");
        let bytes = 8 * (halo + taps) + 4 * value("SUBGROUPS") * size * size;
        assert!(bytes <= 32 << 10, "{bytes}");
        let [invocations, ..] = module.entry_points[0].workgroup_size;
        assert_eq!(invocations as usize, value("SUBGROUPS") * value("SUBGROUP"));
        let channels = 4 * value("QUADS");
        let (rows, columns) = (value("ROWS"), value("COLUMNS"));
        let is_grid = matches!(
            kernel.grid,
            Grid::Blocks { rows: r, columns: c, channels: n, .. }
                if (r * side, c * side, n) == (rows, columns, channels)
        );
        assert!(is_grid, "{:?}", kernel.grid);
        let own = value("PIXEL_TILES") * value("CHANNEL_TILES") * size * size;
        assert_eq!(own * value("SUBGROUPS"), rows * columns * channels);
        let packed = kernel.bindings.iter().any(|binding| {
            matches!(binding, Binding::Parameter { packing: Packing::ConvTerms { tile }, .. } if *tile == channels)
        });
        assert!(packed, "{:?}", kernel.bindings);
        blocks.insert((size, cells, rows, columns, channels));
        sides.insert((side, size, rows, columns, channels));
        stages.insert((value("STAGE_ROWS"), value("STAGE_GROUPS")));
    }
    assert_eq!(blocks.len(), 9, "{blocks:?}");
    assert!(stages.len() >= 5, "{stages:?}");
}

/// All tiles of `winograd_product_coop` occur, within 32 KiB of workgroup memory.
#[test]
fn every_tile_of_winograd_product_coop_occurs_and_fits_workgroup_memory() {
    let mut tiles = BTreeSet::new();
    let kernels = kernels();
    let by_matrices = |k: &&Kernel| k.shader.name == "winograd_product_coop";
    for kernel in kernels.iter().filter(by_matrices) {
        let (module, _) = validated(kernel.shader.name, &kernel.shader.source);
        let value = |name| constant(&module, name).unwrap();
        let (size, cells) = (value("SIZE"), value("CELLS"));
        let channels = 4 * value("QUADS");
        let staged = (value("TILES") + channels) * value("PITCH");
        let bytes = 8 * staged + 4 * value("SUBGROUPS") * size * size;
        assert!(bytes <= 32 << 10, "{bytes}");
        let [invocations, ..] = module.entry_points[0].workgroup_size;
        assert_eq!(invocations as usize, value("SUBGROUPS") * value("SUBGROUP"));
        assert_eq!(
            kernel.grid,
            Grid::Planes {
                planes: value("POINTS"),
                items: value("TILES"),
                channels
            }
        );
        let own = value("TILE_MATRICES") * value("CHANNEL_MATRICES") * size * size;
        assert_eq!(own * value("SUBGROUPS"), value("TILES") * channels);
        let packed = kernel.bindings.iter().any(|binding| {
            matches!(binding, Binding::Parameter { packing: Packing::WinogradTerms { tile, .. }, .. } if *tile == channels)
        });
        assert!(packed, "{:?}", kernel.bindings);
        let own = value("CHANNEL_MATRICES");
        tiles.insert((size, cells, value("TILES"), channels, own));
    }
    assert_eq!(tiles.len(), 8, "{tiles:?}");
}

/// A plan of f16 takes cooperative matrices unmeasured if the device was found to compute right with them, for all
/// convolutions but that of the picture, whose three channels fill little of a product. Their pools stay fused.
#[test]
fn plans_use_cooperative_matrices_once_they_are_checked() {
    let graph = full_width();
    for (checked, half) in [(false, true), (true, false), (true, true)] {
        for side in [500, 224, 96] {
            let all = matrices().into_iter();
            let all = all.map(|matrix| CooperativeMatrix { checked, ..matrix });
            let target = with_matrices(&Target::WEBGPU_DEFAULTS, all.collect()).in_half(half);
            let shape = Shape::new(1, 3, side, side);
            let plan = Plan::new(&graph, shape, &[graph.output()], &target).unwrap();
            let by_matrices: Vec<_> = plan
                .layers
                .iter()
                .filter(|layer| layer.kernel.ends_with("_coop"))
                .collect();
            if !(checked && half) {
                assert!(by_matrices.is_empty(), "{plan}");
                continue;
            }
            let others = plan
                .layers
                .iter()
                .filter(|layer| layer.kernel.contains("conv2d"));
            let others: Vec<_> = others
                .filter(|layer| layer.kernel != "conv2d_coop")
                .collect();
            assert!(
                others.iter().all(|layer| layer.name.starts_with("conv1_1")),
                "{plan}"
            );
            assert!(by_matrices.len() >= 17, "{plan}");
            assert!(
                plan.layers.iter().all(|layer| layer.kernel != "max_pool2d"),
                "{plan}"
            );
        }
    }
}
