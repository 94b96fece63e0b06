//! Networks of other than three input channels: files, pictures of bands, and textures, on the device and on the CPU.

use crate::common::{Random, gpu, serialize};
use fullconv::compare::{compare_picture, compare_tensor};
use fullconv::{
    Channels, ErrorKind, GpuOptions, Model, Picture, Preprocessing, Samples, Segmenter, Shape,
    Size, Tensor,
};
use pollster::block_on;

/// A convolution over `channels` input channels, with `keys` in its graph and `more` beside it.
fn model(channels: usize, keys: &str, more: &str) -> fullconv::Result<Model> {
    let mut random = Random::new(channels as u8);
    let metadata = format!(
        r#"{{"version": 1, "graph": {{"channels": {channels}, {keys} "output": "score", "nodes": [
            {{"name": "conv", "op": "conv2d", "inputs": ["input", "conv.weight"],
              "attributes": {{"padding": 1}}}},
            {{"name": "relu", "op": "relu", "inputs": ["conv"]}},
            {{"name": "score", "op": "conv2d", "inputs": ["relu", "score.weight", "score.bias"]}}]}} {more}}}"#
    );
    let tensors = [
        ("conv.weight", Shape::new(6, channels, 3, 3)),
        ("score.weight", Shape::new(4, 6, 1, 1)),
        ("score.bias", Shape::vector(4)),
    ];
    let tensors = tensors.map(|(name, shape)| (name.to_owned(), random.tensor(shape)));
    Model::from_bytes(serialize(&tensors, Some(&metadata)))
}

fn bands(size: Size, count: usize, seed: u8) -> Picture {
    let mut random = Random::new(seed);
    let picture = random.picture(Shape::new(1, count, size.height, size.width));
    let pixels = 0..size.height * size.width;
    let sample = |i: usize, band: usize| 257 * picture.plane(0, band)[i] as u16;
    let samples = pixels.flat_map(|i| (0..count).map(move |band| (i, band)));
    let samples = samples.map(|(i, band)| sample(i, band)).collect();
    Picture::from_bands(size, count, Samples::U16(samples)).unwrap()
}

#[test]
fn any_number_of_channels_agrees_with_the_reference() {
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    for channels in [1, 2, 4, 5, 12] {
        let scaled = r#", "preprocess": {"channels": "CHANNELS", "range": 1, "mean": MEAN, "std": STD, "long_side": 17}"#;
        let name = ["", "grey", "grey", "rgb", "rgba"]
            .get(channels)
            .unwrap_or(&"bands");
        let numbers = |x: f32| format!("{:?}", vec![x; channels]);
        let scaled = scaled
            .replace("CHANNELS", name)
            .replace("MEAN", &numbers(0.4));
        for more in ["", &scaled.replace("STD", &numbers(0.3))] {
            let model = model(channels, "", more).unwrap();
            assert_eq!(model.input_channels(), channels);
            let segmenter = block_on(Segmenter::new(&gpu, &model)).unwrap();
            let input = Random::new(9).tensor(Shape::new(2, channels, 11, 14));
            let report = block_on(compare_tensor(&segmenter, &input)).unwrap();
            assert!(report.is_within_bounds(), "{:?}", report.first_outside());
            let size = Size::new(23, 29);
            let mut pictures = vec![bands(size, channels, 3), bands(size, channels, 4)];
            if channels < 5 {
                let colour = (0..4 * 23 * 29).map(|i| (i * 37 % 256) as u8).collect();
                pictures.push(Picture::from_rgba(size, colour).unwrap());
            }
            for picture in &pictures {
                let report = block_on(compare_picture(&segmenter, picture)).unwrap();
                assert!(report.is_within_bounds(), "{:?}", report.first_outside());
            }
            // One by one, in one batch, and under way together.
            let alone: Vec<_> = pictures
                .iter()
                .map(|picture| segmenter.segment_blocking(picture).unwrap())
                .collect();
            let of_bands = &pictures[..2];
            assert_eq!(
                block_on(segmenter.segment_batch(of_bands)).unwrap(),
                alone[..2]
            );
            let frames = segmenter.frames().blocking(&pictures);
            assert_eq!(frames.collect::<Result<Vec<_>, _>>().unwrap(), alone);
            let profile = block_on(segmenter.profile(size, 1, 1)).unwrap();
            assert_eq!(profile.run_ms.len(), 1);
        }
    }
}

#[test]
fn a_texture_serves_networks_of_colours_only() {
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    let size = Size::new(7, 9);
    let rgba: Vec<u8> = (0..4 * 7 * 9).map(|i| (i * 31 % 256) as u8).collect();
    let extent = wgpu::Extent3d {
        width: 9,
        height: 7,
        depth_or_array_layers: 1,
    };
    let usage = wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST;
    let texture = gpu.device().create_texture(&wgpu::TextureDescriptor {
        label: None,
        size: extent,
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format: wgpu::TextureFormat::Rgba8Unorm,
        usage,
        view_formats: &[],
    });
    let layout = wgpu::TexelCopyBufferLayout {
        offset: 0,
        bytes_per_row: Some(36),
        rows_per_image: None,
    };
    gpu.queue()
        .write_texture(texture.as_image_copy(), &rgba, layout, extent);
    let picture = Picture::from_rgba(size, rgba).unwrap();
    for channels in [1, 2, 4] {
        let model = model(channels, "", "").unwrap();
        let segmenter = block_on(Segmenter::new(&gpu, &model)).unwrap();
        let mask = block_on(segmenter.segment_texture(&texture, fullconv::Colours::None)).unwrap();
        let expected = segmenter.segment_blocking(&picture).unwrap();
        assert_eq!(block_on(mask.read()).unwrap(), expected, "{channels}");
    }
    let segmenter = block_on(Segmenter::new(&gpu, &model(12, "", "").unwrap())).unwrap();
    let error = block_on(segmenter.texture_pass(size)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("bands, 12 of them"), "{error}");
}

#[test]
fn twelve_bands_are_scaled_and_centred() {
    let more = r#", "preprocess": {"channels": "bands", "range": 65535, "mean": [1,2,3,4,5,6,7,8,9,10,11,12],
        "std": [2,2,2,2,2,2,2,2,2,2,2,4]}"#;
    let model = model(12, "", more).unwrap();
    let on_cpu = Segmenter::on_cpu(&model);
    let size = Size::new(3, 5);
    let picture = bands(size, 12, 8);
    let input = Tensor::from_fn(Shape::new(1, 12, 3, 5), |_, c, y, x| {
        let Some(Samples::U16(all)) = picture.samples() else {
            panic!("other samples");
        };
        let std = if c == 11 { 4.0 } else { 2.0 };
        (f32::from(all[(y * 5 + x) * 12 + c]) - (c + 1) as f32) / std
    });
    let expected = block_on(on_cpu.run(&input.unwrap(), &[])).unwrap().output;
    let found = block_on(on_cpu.scores(&picture)).unwrap();
    for (a, b) in found.data().iter().zip(expected.data()) {
        assert!((a - b).abs() <= 1e-5 * b.abs().max(1e4), "{a} {b}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let twelve = Segmenter::on_cpu(&model(12, "", "").unwrap());
    assert_eq!(twelve.model().preprocessing(), &Preprocessing::assumed(12));
    assert!(twelve.model().assumes_preprocessing());
    let rgb = Picture::from_rgb(Size::new(2, 2), vec![0; 12]).unwrap();
    let error = twelve.segment_blocking(&rgb).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Picture);
    assert_eq!(
        error.to_string(),
        "the picture has 3 bands; the network takes 12 (bands)"
    );
    let three = Segmenter::on_cpu(&model(3, "", "").unwrap());
    let error = three
        .segment_blocking(&bands(Size::new(2, 2), 12, 1))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the picture has 12 bands; the network takes 3 (rgb)"
    );
    // The convolution reads five channels.
    let wrong = [
        r#", "preprocess": {"channels": "rgb", "range": 1, "mean": [0,0,0], "std": [1,1,1]}"#,
        r#", "preprocess": {"channels": "bands", "range": 1, "mean": [0,0,0], "std": [1,1,1]}"#,
    ];
    for more in wrong {
        let error = model(5, "", more).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ModelFile);
        assert!(error.to_string().contains("5 channels"), "{error}");
    }
    for keys in [r#""size": [0, 4],"#, r#""size": [99999999, 4],"#] {
        assert!(
            model(3, keys, "")
                .unwrap_err()
                .to_string()
                .contains("is no picture")
        );
    }
}

#[test]
fn a_network_of_one_size_gets_every_picture_at_it() {
    let one = model(3, r#""size": [8, 12],"#, "").unwrap();
    assert_eq!(one.input_size(), Some(Size::new(8, 12)));
    assert_eq!(
        one.network_size(Size::new(100, 50)).unwrap(),
        Size::new(8, 12)
    );
    let segmenter = Segmenter::on_cpu(&one);
    let picture = Picture::from_rgb(Size::new(5, 7), vec![9; 105]).unwrap();
    assert_eq!(
        segmenter.segment_blocking(&picture).unwrap().size(),
        picture.size()
    );
    let input = |h, w| Tensor::zeros(Shape::new(1, 3, h, w)).unwrap();
    assert!(block_on(segmenter.run(&input(8, 12), &[])).is_ok());
    let error = block_on(segmenter.run(&input(8, 13), &[])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shape);
    assert!(error.to_string().contains("takes 8x12 only"), "{error}");
    let long = r#", "preprocess": {"channels": "rgb", "range": 1, "mean": [0,0,0], "std": [1,1,1], "long_side": 9}"#;
    let error = model(3, r#""size": [8, 12],"#, long).unwrap_err();
    assert!(error.to_string().contains("graph.size"), "{error}");
    assert_eq!(one.preprocessing().channels, Channels::Rgb);
    if let Some(gpu) = gpu(GpuOptions::default()) {
        let on_device = block_on(Segmenter::new(&gpu, &one)).unwrap();
        let report = block_on(compare_picture(&on_device, &picture)).unwrap();
        assert!(report.is_within_bounds(), "{:?}", report.first_outside());
    }
}
