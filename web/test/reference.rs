//! Native reference results for the browser tests. `web_reference FOLDER` writes to the folder
//!
//! - `street.png`, `street.scores`, `street.json`: a photograph as this program decodes it, the demo model's scores on
//!   the CPU reference at the photograph's size (f32, a plane a class), and the margin within which labels may differ;
//! - `strip.png`: a strip of the photograph, for faster tests;
//! - `wide.safetensors`, `wide.png`, `wide.scores`, `wide.json`: a network with an fc6 of full width, which exceeds
//!   WebGPU's default buffer size; a picture; the scores at the network's size; the bound on their relative error.

use fullconv::compare::compare_picture;
use fullconv::low_level::ops::{Interpolate, Op};
use fullconv::{Error, ErrorKind, Gpu, Model, Picture, Result, Segmenter, Size, Tensor};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

fn main() -> Result<()> {
    let Some(folder) = std::env::args().nth(1) else {
        eprintln!("usage: web_reference FOLDER");
        std::process::exit(2);
    };
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder).map_err(io)?;
    pollster::block_on(street(folder))?;
    pollster::block_on(wide(folder))
}

fn io(reason: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, reason.to_string())
}

async fn street(folder: &Path) -> Result<()> {
    let picture = Picture::open(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../assets/street.jpg"
    ))?;
    picture.save(folder.join("street.png"))?;
    let row = 3 * picture.width();
    let strip = picture.rgb()[380 * row..460 * row].to_vec();
    Picture::from_rgb(Size::new(80, picture.width()), strip)?.save(folder.join("strip.png"))?;
    let model = Model::from_bytes(fullconv_demo::MODEL)?;
    let report =
        compare_picture(&Segmenter::new(&Gpu::new().await?, &model).await?, &picture).await?;
    let Some(labels) = report.labels else {
        return Err(Error::new(
            ErrorKind::Request,
            "the demo model has no labels",
        ));
    };
    let scores = Segmenter::on_cpu(&model).scores(&picture).await?;
    let resize = Interpolate::bilinear([picture.height(), picture.width()], false);
    write_scores(
        folder,
        "street",
        &resize.reference(&[&scores])?,
        labels.margin,
    )
}

async fn wide(folder: &Path) -> Result<()> {
    let path = folder.join("wide.safetensors");
    write_wide(&path).map_err(io)?;
    let model = Model::read(&path)?;
    let mut random = Random(7);
    let pixels = (0..64 * 64 * 3).map(|_| (random.next() >> 56) as u8);
    let picture = Picture::from_rgb(Size::square(64), pixels.collect())?;
    picture.save(folder.join("wide.png"))?;
    let report =
        compare_picture(&Segmenter::new(&Gpu::new().await?, &model).await?, &picture).await?;
    let bound = report.nodes.last().map_or(0.0, |node| node.bound);
    let scores = Segmenter::on_cpu(&model).scores(&picture).await?;
    write_scores(folder, "wide", &scores, bound)
}

fn write_scores(folder: &Path, name: &str, scores: &Tensor, bound: f64) -> Result<()> {
    let bytes: Vec<u8> = scores.data().iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(folder.join(format!("{name}.scores")), bytes).map_err(io)?;
    let shape = scores.shape();
    let json = format!(
        "{{\"classes\": {}, \"height\": {}, \"width\": {}, \"bound\": {bound:e}}}\n",
        shape.c, shape.h, shape.w
    );
    std::fs::write(folder.join(format!("{name}.json")), json).map_err(io)
}

/// Writes an FCN-32s that is narrow except for fc6: 411 MB.
fn write_wide(path: &Path) -> std::io::Result<()> {
    let mut layers: Vec<(String, usize, usize, usize)> = Vec::new();
    let mut channels = 3;
    for (stage, convolutions) in (1..).zip([2, 2, 3, 3, 3]) {
        for i in 1..=convolutions {
            let out = if (stage, i) == (5, 3) { 512 } else { 8 };
            layers.push((format!("conv{stage}_{i}"), out, channels, 3));
            channels = out;
        }
    }
    layers.push(("fc6".into(), 4096, 512, 7));
    layers.push(("fc7".into(), 8, 4096, 1));
    layers.push(("score_fr".into(), 5, 8, 1));

    let mut header =
        r#"{"__metadata__": {"fullconv": "{\"version\": 1, \"geometry\": \"same\"}"}"#.to_owned();
    let mut end = 0;
    for (name, out, c, k) in &layers {
        for (tensor, shape) in [("weight", vec![*out, *c, *k, *k]), ("bias", vec![*out])] {
            let begin = end;
            end += 4 * shape.iter().product::<usize>();
            header += &format!(
                r#", "{name}.{tensor}": {{"dtype": "F32", "shape": {shape:?}, "data_offsets": [{begin}, {end}]}}"#
            );
        }
    }
    header += "}";
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len());

    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let mut random = Random(1);
    for (_, out, c, k) in &layers {
        // Outputs have the magnitude of inputs (He et al. 2015).
        let terms = c * k * k;
        let size = (6.0 / terms as f32).sqrt();
        for _ in 0..out * terms {
            file.write_all(&(size * random.float()).to_le_bytes())?;
        }
        for _ in 0..*out {
            file.write_all(&(0.1 * random.float()).to_le_bytes())?;
        }
    }
    file.flush()
}

/// Deterministic random numbers: xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Between −1 and 1.
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }
}
