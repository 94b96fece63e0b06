//! Two segmenters on a program's own device: `cargo run --example share_device [IMAGE]`.

use fullconv::gpu::{adapters, wgpu};
use fullconv::{Gpu, Model, Picture, Segmenter};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pollster::block_on(run())
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    // A program that draws has a device and a queue already.
    let found = adapters(None).await;
    let usable = found.iter().find(|adapter| adapter.trouble().is_none());
    let adapter = usable.ok_or("there is no usable adapter")?.wgpu();
    let (device, queue) = adapter
        .request_device(&wgpu::DeviceDescriptor::default())
        .await?;

    let gpu = Gpu::from_wgpu(device.clone(), queue.clone())?;
    let model = Model::from_bytes(fullconv_demo::MODEL)?;
    let day = Segmenter::new(&gpu, &model).await?;
    // Segmenters of one model share its weights.
    let night = Segmenter::new(&gpu, &model).await?;

    let path = std::env::args().nth(1);
    let picture = Picture::open(path.as_deref().unwrap_or("assets/street.jpg"))?;
    let dark = picture.rgb().iter().map(|byte| byte / 3).collect();
    let dark = Picture::from_rgb(picture.size(), dark)?;
    for (name, segmenter, picture) in [("day", day, picture), ("night", night, dark)] {
        let mask = segmenter.segment(&picture).await?;
        let shares = mask.shares();
        let largest = shares.iter().take(3).map(|(class, share)| {
            let percent = 100.0 * share;
            format!("{} {percent:.0} %", mask.class_name(*class))
        });
        println!("{name}: {}", largest.collect::<Vec<_>>().join(", "));
    }
    // The device is still the program's.
    device.poll(wgpu::PollType::wait_indefinitely())?;
    Ok(())
}
